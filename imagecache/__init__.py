"""Remote images for asyncio: fetched, decoded, cached in two tiers, revalidated as HTTP means it.

    image = await imagecache.fetch_image("https://example.com/a.jpg")

Every public name is here, and resolved when it is first used (PEP 562): importing this package imports
neither aiohttp nor Pillow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cache_status import CacheStatus as CacheStatus
    from .default import (
        configure as configure,
        default_manager as default_manager,
        explain as explain,
        fetch as fetch,
        fetch_data as fetch_data,
        fetch_file as fetch_file,
        fetch_image as fetch_image,
        fetch_response as fetch_response,
        prefetch as prefetch,
    )
    from .delegate import (
        Handle as Handle,
        ImageCacheDelegate as ImageCacheDelegate,
        ImageDownloaderDelegate as ImageDownloaderDelegate,
    )
    from .entry import Entry as Entry, Protection as Protection, RowKey as RowKey
    from .errors import (
        AddressRefusedError as AddressRefusedError,
        BadStatusError as BadStatusError,
        BodyTooLargeError as BodyTooLargeError,
        CacheError as CacheError,
        ConnectionFailedError as ConnectionFailedError,
        DecodeError as DecodeError,
        DownloadCancelledError as DownloadCancelledError,
        EncodeError as EncodeError,
        ImageCacheError as ImageCacheError,
        ImageError as ImageError,
        ImageTooLargeError as ImageTooLargeError,
        InvalidURLError as InvalidURLError,
        ManagerClosedError as ManagerClosedError,
        NetworkError as NetworkError,
        NotAnImageError as NotAnImageError,
        NotInCacheError as NotInCacheError,
        PreconditionFailedError as PreconditionFailedError,
        ProcessorError as ProcessorError,
        RedirectError as RedirectError,
        RequestError as RequestError,
        RequestModifierError as RequestModifierError,
        ResponseError as ResponseError,
        ResponseRefusedError as ResponseRefusedError,
        StorageError as StorageError,
        TimedOutError as TimedOutError,
        TruncatedBodyError as TruncatedBodyError,
        WrongLoopError as WrongLoopError,
    )
    from .expiration import AccessExtension as AccessExtension, StorageExpiration as StorageExpiration
    from .headers import Headers as Headers
    from .http.explanation import Explanation as Explanation
    from .imaging.limits import ImageLimits as ImageLimits
    from .imaging.processors.black_white import BlackWhite as BlackWhite
    from .imaging.processors.blur import Blur as Blur
    from .imaging.processors.border import Border as Border
    from .imaging.processors.circle import Circle as Circle
    from .imaging.processors.color_controls import ColorControls as ColorControls
    from .imaging.processors.crop import Crop as Crop
    from .imaging.processors.custom import Custom as Custom
    from .imaging.processors.downsample import Downsample as Downsample
    from .imaging.processors.overlay import Overlay as Overlay
    from .imaging.processors.resize import Resize as Resize
    from .imaging.processors.round_corners import RoundCorners as RoundCorners
    from .imaging.processors.tint import Tint as Tint
    from .imaging.serializer import FormatCacheSerializer as FormatCacheSerializer
    from .keys import hash_for_key as hash_for_key, key_for_url as key_for_url
    from .manager import ImageManager as ImageManager
    from .metrics import Counters as Counters, FetchReport as FetchReport, Metrics as Metrics
    from .network.download import Download as Download
    from .network.downloader import ImageDownloader as ImageDownloader
    from .network.retry import BackoffRetryStrategy as BackoffRetryStrategy, DelayRetryStrategy as DelayRetryStrategy
    from .network.settings import NetworkOptions as NetworkOptions, Timeouts as Timeouts
    from .pipeline.prefetcher import ImagePrefetcher as ImagePrefetcher, PrefetchOptions as PrefetchOptions
    from .protocols import (
        Animation as Animation,
        CacheSerializer as CacheSerializer,
        ImageProcessor as ImageProcessor,
        Redirect as Redirect,
        RedirectHandler as RedirectHandler,
        RequestModifier as RequestModifier,
        ResponseInfo as ResponseInfo,
        RetryContext as RetryContext,
        RetryStrategy as RetryStrategy,
        UnauthorizedHook as UnauthorizedHook,
    )
    from .request import (
        CachePolicy as CachePolicy,
        DownloadRequest as DownloadRequest,
        FetchOptions as FetchOptions,
        ImageRequest as ImageRequest,
        Priority as Priority,
        ResponseOptions as ResponseOptions,
    )
    from .result import (
        CachedResponse as CachedResponse,
        CacheType as CacheType,
        ImageResult as ImageResult,
        PrefetchOutcome as PrefetchOutcome,
        PrefetchReport as PrefetchReport,
        PrefetchStatus as PrefetchStatus,
        ServedFrom as ServedFrom,
    )
    from .storage.cache import ImageCache as ImageCache
    from .storage.disk import DiskStorage as DiskStorage
    from .storage.etags import ETagRegistry as ETagRegistry
    from .storage.memory import MemoryStorage as MemoryStorage
    from .storage.stats import CacheHealth as CacheHealth, CacheStats as CacheStats, TierStats as TierStats
    from .storage.stored import (
        DiskState as DiskState,
        Stored as Stored,
        StoreResult as StoreResult,
        StoreStatus as StoreStatus,
    )
    from .storage.verify import Damaged as Damaged, VerifyReport as VerifyReport

__version__ = "0.1.0"

_MODULES = {
    "cache_status": ("CacheStatus",),
    "default": (
        "configure", "default_manager", "explain", "fetch", "fetch_data", "fetch_file", "fetch_image", "fetch_response",
        "prefetch",
    ),
    "delegate": ("Handle", "ImageCacheDelegate", "ImageDownloaderDelegate"),
    "entry": ("Entry", "Protection", "RowKey"),
    "errors": (
        "AddressRefusedError", "BadStatusError", "BodyTooLargeError", "CacheError", "ConnectionFailedError",
        "DecodeError", "DownloadCancelledError", "EncodeError", "ImageCacheError", "ImageError", "ImageTooLargeError",
        "InvalidURLError", "ManagerClosedError", "NetworkError", "NotAnImageError", "NotInCacheError",
        "PreconditionFailedError", "ProcessorError", "RedirectError", "RequestError", "RequestModifierError",
        "ResponseError", "ResponseRefusedError", "StorageError", "TimedOutError", "TruncatedBodyError",
        "WrongLoopError",
    ),
    "expiration": ("AccessExtension", "StorageExpiration"),
    "headers": ("Headers",),
    "http.explanation": ("Explanation",),
    "imaging.limits": ("ImageLimits",),
    "imaging.processors.black_white": ("BlackWhite",),
    "imaging.processors.blur": ("Blur",),
    "imaging.processors.border": ("Border",),
    "imaging.processors.circle": ("Circle",),
    "imaging.processors.color_controls": ("ColorControls",),
    "imaging.processors.crop": ("Crop",),
    "imaging.processors.custom": ("Custom",),
    "imaging.processors.downsample": ("Downsample",),
    "imaging.processors.overlay": ("Overlay",),
    "imaging.processors.resize": ("Resize",),
    "imaging.processors.round_corners": ("RoundCorners",),
    "imaging.processors.tint": ("Tint",),
    "imaging.serializer": ("FormatCacheSerializer",),
    "keys": ("hash_for_key", "key_for_url"),
    "manager": ("ImageManager",),
    "metrics": ("Counters", "FetchReport", "Metrics"),
    "network.download": ("Download",),
    "network.downloader": ("ImageDownloader",),
    "network.retry": ("BackoffRetryStrategy", "DelayRetryStrategy"),
    "network.settings": ("NetworkOptions", "Timeouts"),
    "pipeline.prefetcher": ("ImagePrefetcher", "PrefetchOptions"),
    "protocols": (
        "Animation", "CacheSerializer", "ImageProcessor", "Redirect", "RedirectHandler", "RequestModifier",
        "ResponseInfo", "RetryContext", "RetryStrategy", "UnauthorizedHook",
    ),
    "request": ("CachePolicy", "DownloadRequest", "FetchOptions", "ImageRequest", "Priority", "ResponseOptions"),
    "result": (
        "CacheType", "CachedResponse", "ImageResult", "PrefetchOutcome", "PrefetchReport", "PrefetchStatus",
        "ServedFrom",
    ),
    "storage.cache": ("ImageCache",),
    "storage.disk": ("DiskStorage",),
    "storage.etags": ("ETagRegistry",),
    "storage.memory": ("MemoryStorage",),
    "storage.stats": ("CacheHealth", "CacheStats", "TierStats"),
    "storage.stored": ("DiskState", "StoreResult", "StoreStatus", "Stored"),
    "storage.verify": ("Damaged", "VerifyReport"),
}  # fmt: skip
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imagecache' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
