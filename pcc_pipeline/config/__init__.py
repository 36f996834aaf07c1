"""params.yaml as typed, frozen, closed models; reading a configuration opens no connection and sets no variable."""

from pcc_pipeline.config.loading import Fault, load_params
from pcc_pipeline.config.schema import Params

__all__ = ["Fault", "Params", "load_params"]
