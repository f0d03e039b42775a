"""Every public function takes the arguments that the original takes, by the same names and with the same defaults."""

from __future__ import annotations

import importlib
import inspect

import pytest

# tf_transformations 1.1.0 and 1.1.1, tf2_ros_py and tf2_py 0.36 (Jazzy), cv_bridge 4.1 (Jazzy), message_filters
# 4.11.11; `~` is a wait of no length.
ORIGINALS = """
tf_transformations concatenate_matrices *matrices
tf_transformations euler_from_matrix matrix axes='sxyz'
tf_transformations euler_from_quaternion quaternion axes='sxyz'
tf_transformations euler_matrix ai aj ak axes='sxyz'
tf_transformations identity_matrix
tf_transformations inverse_matrix matrix
tf_transformations is_same_transform matrix0 matrix1
tf_transformations quaternion_about_axis angle axis
tf_transformations quaternion_conjugate quaternion
tf_transformations quaternion_from_euler ai aj ak axes='sxyz'
tf_transformations quaternion_from_matrix matrix
tf_transformations quaternion_inverse quaternion
tf_transformations quaternion_matrix quaternion
tf_transformations quaternion_multiply quaternion1 quaternion0
tf_transformations quaternion_slerp quat0 quat1 fraction spin=0 shortestpath=True
tf_transformations random_quaternion rand=None
tf_transformations random_rotation_matrix rand=None
tf_transformations random_vector size
tf_transformations rotation_from_matrix matrix
tf_transformations rotation_matrix angle direction point=None
tf_transformations translation_from_matrix matrix
tf_transformations translation_matrix direction
tf_transformations unit_vector data axis=None out=None
tf_transformations vector_norm data axis=None out=None
tf2_ros Buffer cache_time=None node=None
tf2_ros Buffer.set_transform transform authority
tf2_ros Buffer.set_transform_static transform authority
tf2_ros Buffer.lookup_transform target_frame source_frame time timeout=~
tf2_ros Buffer.lookup_transform_full target_frame target_time source_frame source_time fixed_frame timeout=~
tf2_ros Buffer.lookup_transform_async target_frame source_frame time
tf2_ros Buffer.lookup_transform_full_async target_frame target_time source_frame source_time fixed_frame
tf2_ros Buffer.can_transform target_frame source_frame time timeout=~ return_debug_tuple=False
tf2_ros Buffer.can_transform_full target_frame target_time source_frame source_time fixed_frame \
timeout=~ return_debug_tuple=False
tf2_ros Buffer.wait_for_transform_async target_frame source_frame time
tf2_ros Buffer.wait_for_transform_full_async target_frame target_time source_frame source_time fixed_frame
tf2_ros Buffer.transform object_stamped target_frame timeout=~ new_type=None
tf2_ros Buffer.transform_full object_stamped target_frame target_time fixed_frame timeout=~ new_type=None
tf2_ros TransformListener buffer node spin_thread=False qos=None static_qos=None
tf2_ros TransformListener.unregister
tf2_ros TransformListener.callback data
tf2_ros TransformListener.static_callback data
tf2_ros TransformBroadcaster node qos=None
tf2_ros TransformBroadcaster.sendTransform transform
tf2_ros StaticTransformBroadcaster node qos=None
tf2_ros StaticTransformBroadcaster.sendTransform transform
tf2_ros TransformRegistration.add key callback
tf2_ros TransformRegistration.get key
tf2_ros ConvertRegistration.add_from_msg key callback
tf2_ros ConvertRegistration.add_to_msg key callback
tf2_ros ConvertRegistration.add_convert key callback
tf2_ros ConvertRegistration.get_from_msg key
tf2_ros ConvertRegistration.get_to_msg key
tf2_ros ConvertRegistration.get_convert key
tf2_ros convert a b_type
tf2_ros Stamped obj stamp frame_id
cv_bridge CvBridge
cv_bridge CvBridge.dtype_with_channels_to_cvtype2 dtype n_channels
cv_bridge CvBridge.cvtype2_to_dtype_with_channels cvtype
cv_bridge CvBridge.encoding_to_cvtype2 encoding
cv_bridge CvBridge.encoding_to_dtype_with_channels encoding
cv_bridge CvBridge.imgmsg_to_cv2 img_msg desired_encoding='passthrough'
cv_bridge CvBridge.compressed_imgmsg_to_cv2 cmprs_img_msg desired_encoding='passthrough'
cv_bridge CvBridge.cv2_to_imgmsg cvim encoding='passthrough' header=None
cv_bridge CvBridge.cv2_to_compressed_imgmsg cvim dst_format='jpg'
message_filters SimpleFilter
message_filters SimpleFilter.registerCallback cb *args
message_filters SimpleFilter.signalMessage *msg
message_filters Subscriber.getTopic
message_filters Cache f cache_size=1 allow_headerless=False
message_filters Cache.connectInput f
message_filters Cache.add msg
message_filters Cache.getInterval from_stamp to_stamp
message_filters Cache.getElemAfterTime stamp
message_filters Cache.getElemBeforeTime stamp
message_filters Cache.getLastestTime
message_filters Cache.getOldestTime
message_filters Cache.getLast
message_filters Chain message_filter=None
message_filters Chain.connectInput message_filter
message_filters Chain.add message
message_filters Chain.addFilter message_filter
message_filters Chain.getFilter index
message_filters TimeSynchronizer fs queue_size
message_filters TimeSynchronizer.connectInput fs
message_filters TimeSynchronizer.add msg my_queue my_queue_index=None
message_filters ApproximateTimeSynchronizer fs queue_size slop allow_headerless=False
message_filters ApproximateTimeSynchronizer.add msg my_queue my_queue_index=None
"""


def said(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind == parameter.VAR_POSITIONAL else ""
    if parameter.default is parameter.empty:
        return star + parameter.name
    return f"{parameter.name}={'~' if hasattr(parameter.default, 'nanoseconds') else repr(parameter.default)}"


@pytest.mark.parametrize("line", ORIGINALS.strip().splitlines())
def test_arguments_are_those_of_the_original(line):
    module, path, *arguments = line.split()
    function = importlib.import_module(module)
    for name in path.split("."):
        function = getattr(function, name)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    assert [said(p) for p in parameters] == arguments
