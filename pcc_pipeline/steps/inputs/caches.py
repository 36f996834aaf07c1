"""Where vectors are kept between runs, as the configuration says."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.config.schema import POSTGRESQL
from pcc_pipeline.encoder.caches.entries import CachePlace
from pcc_pipeline.encoder.caches.on_disk import FolderCaches
from pcc_pipeline.persons.keys import use_keys


def cache_places(params: Params) -> Sequence[CachePlace]:
    """All that the configuration names; the last one is in use.

    Vectors of earlier runs stay in the others, and whoever removes some has to look there, too.

    Raises:
        ConfigError: the address of one is none, or what it needs is not installed.
    """
    options = params.preprocessing
    use_keys(local_path(params.lineage.key_file))
    places: list[CachePlace] = [] if options.cache_dir is None else [FolderCaches(local_path(options.cache_dir))]
    if options.cache is not None:
        places.append(_shared(options.cache, params.document()["preprocessing"]["cache"]))
    return places


def _shared(address: str, where: str) -> CachePlace:
    if address.startswith(POSTGRESQL):
        from pcc_pipeline.encoder.caches.in_postgresql import PostgresCaches

        return PostgresCaches(address, where)
    from pcc_pipeline.encoder.caches.in_redis import RedisCaches

    return RedisCaches(address, where)
