"""What the same worker will read next, told with each request: so that it can be fetched in time."""

from collections import deque
from collections.abc import Iterator

from torch.utils.data import Sampler

from datamodules.sampling.batch_sampler import EvaluationRequests, Request, TrainRequests


class LookAhead(Sampler[Request]):
    """The same requests, each with the samples of the one `distance` later.

    A DataLoader deals requests to its workers in turn, so with `distance` workers that one goes to the same worker.
    """

    def __init__(self, requests: TrainRequests | EvaluationRequests, distance: int) -> None:
        self.requests = requests
        self.distance = distance

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        known: deque[Request] = deque()
        for later in self.requests:
            known.append(later)
            if len(known) > self.distance:
                yield known.popleft()._replace(ahead=later.samples)
        yield from known
