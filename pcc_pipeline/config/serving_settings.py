"""`serving`: the HTTP server around a registered model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pcc_pipeline.config.paths import HomePath
from pcc_pipeline.config.section import NonEmpty, Section

_ON_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class ServingParams(Section):
    """`serving`: where `pcc serve` listens, whom it answers, and how much it takes."""

    host: NonEmpty = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    accounts: Literal["none", "tokens", "tracking"] | None = None
    tokens_file: HomePath = Field(default="~/.config/pcc_pipeline/serving_tokens", validate_default=True)
    tls_certificate: HomePath | None = None
    tls_key: HomePath | None = None
    open_metrics: bool = False
    requests_per_minute: int | None = Field(default=None, ge=1)
    follow_seconds: float = Field(default=5, ge=0.2, le=3600)
    batch_texts: int = Field(default=64, ge=1, le=1024)
    batch_wait_ms: float = Field(default=2, ge=0, le=1000)
    queue_texts: int = Field(default=2048, ge=1)
    request_seconds: float = Field(default=10, gt=0, le=600)
    request_texts: int = Field(default=1000, ge=1)
    request_mb: Annotated[float, Field(gt=0, le=1024)] = 16.0
    cached_texts: int = Field(default=0, ge=0)
    drain_seconds: float = Field(default=0, ge=0, le=600)
    models_dir: HomePath = "outputs/serving"

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        faults = []
        if (self.tls_certificate is None) != (self.tls_key is None):
            faults.append("tls_certificate and tls_key belong together: give both, or neither")
        if self.request_texts > self.queue_texts:
            faults.append("request_texts is more than queue_texts, so that a request of that size never finds room")
        if self.accounts is None and self.host not in _ON_THIS_MACHINE:
            faults.append(
                f"on {self.host} others than this machine's users reach it: set accounts to tokens or tracking, or to "
                "none where something in front knows who may ask"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def asks_who(self) -> bool:
        """Whether a caller has to say who it is."""
        return self.accounts in ("tokens", "tracking")
