"""Training side of the Privacy Case Classifier: embed, train, evaluate and version text classifiers with MLflow.

A few names are the package as a library; each is imported when it is first asked for:

    import pcc_pipeline as pcc

    params = pcc.load_params(data="cases.csv", n_iter=5)
    outcome = pcc.run_pipeline(params)
    model = pcc.load_model(outcome.evaluated.model_uri)
    model.predict(["Please delete my account."])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcc_pipeline.library import (
        Classifier,
        Params,
        PccError,
        embed,
        evaluate,
        load_model,
        load_params,
        monitor,
        promote,
        run_pipeline,
        score,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Params",
    "PccError",
    "__version__",
    "embed",
    "evaluate",
    "load_model",
    "load_params",
    "monitor",
    "promote",
    "run_pipeline",
    "score",
    "train",
]


if not TYPE_CHECKING:  # type checkers know the names from above, and that there are no others

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pcc_pipeline import library

        return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
