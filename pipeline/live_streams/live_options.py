"""`LiveOptions`: the options of `classify --live`."""

from dataclasses import dataclass, fields

from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class LiveOptions(Options):
    """Live streams.

    Attributes:
        live: read one stream instead of files, and print a JSON line for each window of it, until it ends or Ctrl-C:
            an address (rtsp://, udp://, http://, ...), a camera (/dev/video0), a named pipe, a file, or - for standard
            input.
        window: length of a window in seconds; default: that of one clip of the network. A window is scored as a video
            of its frames, by up to `num_clips` clips.
        stride: seconds from one window's start to the next one's; default: half of `window`.
        half_life: seconds in which a window's weight in the smoothed probabilities falls to a half, 0 or more.
        wait: have the source wait for the network instead of skipping windows, for pipes whose writer can wait; files
            always do.
        retries: attempts to connect in a row before giving up; default: 3 until the first one succeeds, then without
            end.
        timeout: seconds without data after which a network stream counts as lost, above 0.
    """

    live: bool = False
    window: float | None = None
    stride: float | None = None
    half_life: float = 2.0
    wait: bool = False
    retries: int | None = None
    timeout: float = 10.0

    def check(self) -> None:
        """Raises ValueError for a value out of range, or an option of live streams without `live`."""
        for name in ("window", "stride", "timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name}={value}: must be a number of seconds above 0")
        if not 0 <= self.half_life < float("inf"):
            raise ValueError(f"half_life={self.half_life}: must be a number of seconds, 0 or more")
        self.require_at_least(0, "retries")
        if not self.live:
            for field in fields(LiveOptions):
                value = getattr(self, field.name)
                if value != field.default:
                    raise ValueError(f"{field.name}={value}: is for live streams; give --live too, or leave it out")
