"""Other tools' dataset formats: one file each, read into scenes (`importing`) and laid out as files (`exporting`)."""
