"""A command whose loop writes down each step's images and loss, and which may be killed; a script.

recorded_training.py STEP FOLDER COMMAND...: dies by SIGKILL when step STEP begins, -1 for never;
process n writes lines {"step", "images", "loss"} to FOLDER/n.jsonl.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from detectron2.utils import comm

from resdet.cli.main import main
from resdet.engine import loop


class Recording(loop.Loop):
    def run_step(self) -> None:
        if self.iter == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().run_step()

    def _next_batch(self) -> loop.Batch:
        batch = super()._next_batch()
        self._images = batch[2].tolist() if hasattr(batch[2], "tolist") else list(batch[2])
        return batch

    def _record(self, rows) -> None:
        super()._record(rows)
        loss = sum(row[loop.TOTAL] for row in rows) / len(rows)
        line = {"step": self.iter, "images": self._images, "loss": loss}
        with open(Path(sys.argv[2]) / f"{comm.get_rank()}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    from resdet.pretrain import trainer

    trainer.Loop = Recording
    sys.exit(main(sys.argv[3:]))
