"""How a tool ends: with one sentence where the user is to act, and with its launcher."""

import logging
import os
import pickle
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_distributed

from spm_mm.compat import reason
from spm_mm.engine.machines import end_with_launcher, lost_processes, machine_of
from spm_mm.errors import UserError

__all__ = ['run_tool', 'say']


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; a :class:`UserError` ends it with one sentence and exit status 2.

    Of several processes on a machine that say the same one speaks. Where others are gone, their ranks
    and machines are named and the status is 1. Whatever reads a checkpoint, it is by torch's safe
    loader. Other errors stay what they are.
    """
    # Some releases of mmengine load again without it what it refuses.
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    # A log that nobody reads any more (`| head`) is no reason for a traceback at every line.
    logging.raiseExceptions = False
    end_with_launcher()
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        # A data loader's worker hands on the traceback, too; the sentence is at its end.
        say(str(error).rpartition(f'{UserError.__name__}: ')[2].strip())
        sys.exit(2)
    except pickle.UnpicklingError as error:
        say(f'the checkpoint named last above cannot be read by the safe loader: {reason(error)}')
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.filename is None:
            raise
        say(f'{error.filename}: {error.strerror}')
        sys.exit(2)
    except RuntimeError as error:
        lost = lost_processes(error)
        if not lost:
            raise
        named = ', '.join(f'{rank} on {machine_of(rank)}' for rank in lost)
        why = str(error).splitlines()[0].partition('. ')[0]
        sys.exit(
            f'error: process {named} (of {get_world_size()}) is gone or cannot be reached, so this one'
            f' stops ({why}); --resume continues from the last checkpoint'
        )
    finally:
        if is_distributed():
            # Else gloo's threads may outlive the interpreter, which then aborts.
            torch.distributed.destroy_process_group()


def say(message: str) -> None:
    """Print an error, unless another process of this launch on this machine has printed the same.

    Slurm's tasks have no place in common to tell; there the first of each machine speaks alone.
    """
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    if 'TORCHELASTIC_ERROR_FILE' in os.environ:
        launch = Path(os.environ['TORCHELASTIC_ERROR_FILE']).parents[1]
        launch.mkdir(parents=True, exist_ok=True)
        try:
            (launch / f'{zlib.crc32(message.encode())}.said').touch(exist_ok=False)
        except FileExistsError:
            return
    elif os.environ.get('LOCAL_RANK', '0') != '0':
        return
    print(f'error: {message}', file=sys.stderr, flush=True)
