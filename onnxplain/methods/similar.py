"""Another image as a target: why does the model find this one like it?"""

from __future__ import annotations

from onnxplain.errors import TargetError
from onnxplain.methods.common import Images, output_tensor
from onnxplain.model import Model
from onnxplain.target import Target


def similar(
    model: Model, other: Images, output: str | None = None, name: str = "similar to another image"
) -> Target:
    """Return the target that explains why an image's embedding is like that of `other` (one image).

    output: the output that holds embeddings, None for the model's logit. The score is the product with the
    other's embedding at length 1; see `Target.similar`.

    Raises InputError, TargetError (several images, an unknown output, an embedding of zeros).
    """
    at_size, feeds = model.fit(other)
    count = len(feeds[at_size.graph.source.name])
    if count != 1:
        raise TargetError(f"similar compares with one image, got {count}")
    tensor = output_tensor(at_size, output)
    return Target.similar(at_size.values(feeds, (tensor,))[tensor][0], output, name)
