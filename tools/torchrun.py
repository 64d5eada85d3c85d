"""torchrun, but a failure ends with one line and the status of the process that failed first."""

import logging
import sys

from torch.distributed import DistNetworkError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    # Torch's own report of a failure is many lines around what the process itself has said.
    logging.getLogger('torch.distributed.elastic.multiprocessing').setLevel(logging.CRITICAL)
    # A process that a signal ended has the status that shells give it, 128 and the signal's number.
    try:
        main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        if code != 2:  # else the process has said it already
            print(f'error: process {rank} ended with status {code}, see above', file=sys.stderr)
        sys.exit(code)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except RuntimeError as error:
        # Older versions of torch have no class of its own for a port that is taken.
        if not (isinstance(error, DistNetworkError) or 'EADDRINUSE' in str(error)):
            raise
        print(f'error: {error}; another PORT or MASTER_ADDR may help', file=sys.stderr)
        sys.exit(2)
