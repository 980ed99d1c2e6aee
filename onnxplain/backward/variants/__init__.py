"""Other meanings of "what flows backward": small rule tables over the gradient's."""

from onnxplain.backward.variants.guided import GUIDED
from onnxplain.backward.variants.rescale import RESCALE

__all__ = ["GUIDED", "RESCALE"]
