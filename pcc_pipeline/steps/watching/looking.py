"""Looking at the files that are to be watched: messages, scored or not, labelled or not, or predictions of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from pcc_pipeline.config import Params
from pcc_pipeline.config.schema import ComputeParams
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import ConfigError, DataError, PccError
from pcc_pipeline.monitoring.profile import ReferenceProfile
from pcc_pipeline.search.pools.dask_cluster import demand_cluster
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.steps.inputs.datasets import progress_bar
from pcc_pipeline.steps.parts.engines import engine_of
from pcc_pipeline.steps.parts.running import where_in, with_threads
from pcc_pipeline.steps.parts.surroundings import Surroundings
from pcc_pipeline.steps.watching.messages import of_messages
from pcc_pipeline.steps.watching.predictions import of_predictions
from pcc_pipeline.steps.watching.watched_file import AnsweredFile, WatchedFile, WatchTask
from pcc_pipeline.steps.watching.watched_rows import WatchedRows
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel

Seen = WatchedFile | AnsweredFile


def demand_workers(settings: ComputeParams) -> None:
    """See that who is to look at the files is there.

    Raises:
        ConfigError: no scheduler of Dask answers, or Dask is not installed; or a share of the files is asked for.
    """
    if settings.shard is not None:
        raise ConfigError(
            "compute.shard is for a data set in parts; messages are judged over all files",
            where=f"compute.shard: {settings.shard}",
            fix="leave it out; several processes look at the files by compute.workers, several machines by "
            "compute.engine: dask",
        )
    demand_cluster(settings)


def watched_rows(
    params: Params, loaded: LoadedModel, profile: ReferenceProfile, learned: Callable[[], RowKeys | None]
) -> WatchedRows:
    """`data.path` as it is watched: messages are scored by the model; predictions without texts stand as they are.

    Of several files each is looked at by whom `compute` names, and is checked by itself.

    Args:
        learned: what the rows have that the model learned; None where no record says so. Nobody asks of predictions,
            which have no texts to be known by.

    Raises:
        DataError: a file cannot be read, no row is good, or all are predictions of other versions.
        FeatureError: its vectors are of another encoder.
        ComputeError: workers die, or a cluster is gone.
    """
    sources = files_of(params.data.path)
    task = WatchTask(with_threads(params), loaded.model_uri, profile.space, Surroundings.here(params))
    task.keep(loaded)
    try:
        files = _looked_at(params, task, sources)
    finally:
        task.let_go()
    if answered := [file for file in files if isinstance(file, AnsweredFile)]:
        return of_predictions(params, answered, [line for file in files for line in file.notes], loaded.model)
    messages = [file for file in files if isinstance(file, WatchedFile)]
    return of_messages(messages, params.data.path, loaded.model.model_version, learned)


def _looked_at(params: Params, task: WatchTask, sources: Sequence[str]) -> list[Seen]:
    """The files in their order: those of messages, or those of predictions, and those without rows."""
    seen: dict[str, Seen] = {}
    kinds: set[type[Seen]] = set()
    with closing(_results(params, task, sources)) as results:
        for source, one in results:
            if isinstance(one, PccError):
                raise type(one)(one.what, where=where_in(source, one), fix=one.fix) from one
            if isinstance(one, AnsweredFile) or len(one.rejected):
                kinds.add(type(one))
            if len(kinds) > 1:
                raise DataError(
                    "some of the files hold messages, and others predictions without texts",
                    where=source,
                    fix="look at them one after the other: predictions are judged by less than messages are",
                )
            seen[source] = one
    return [seen[source] for source in sources]


def _results(params: Params, task: WatchTask, sources: Sequence[str]) -> Generator[tuple[str, Seen | PccError]]:
    settings, what = params.compute, f"monitor {params.data.path}"
    if len(sources) == 1 or (settings.engine == "local" and settings.workers == 1):
        with progress_bar(None, what) as bar:
            for source in sources:
                try:
                    one: Seen | PccError = task.look_at(source, bar.update)
                except PccError as error:
                    one = error
                yield source, one
        return
    with progress_bar(len(sources), what, "file") as bar:
        for result in engine_of(settings).run(task, sources):
            bar.update()
            yield result
