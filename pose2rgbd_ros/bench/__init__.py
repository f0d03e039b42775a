"""Speed on this machine: what is compared takes turns in one run, beside what the processor and its memory can do."""
