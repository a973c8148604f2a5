"""suite2p's registration on the CPU, through its documented pipeline, for worker.py."""

import shutil
import sys
from pathlib import Path

from common import versions

_kept = []  # operators are forgotten with the object that declared them


def about():
    return versions("suite2p", "torch", "numpy")


def _suite2p():
    """Import suite2p, also where torch is built for the CPU and torchvision for CUDA.

    Importing such a torchvision fails because its compiled operators are unknown. Registration uses
    none of them, so it is enough to declare them.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
    import suite2p

    return suite2p


def compensate(recording, folder, threads=None):
    """Register one recording, TIFF to binary file, with the default non-rigid settings."""
    import torch

    suite2p = _suite2p()
    if threads:
        torch.set_num_threads(threads)
    recording, folder = Path(recording), Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    settings = suite2p.default_settings()
    settings["torch_device"] = "cpu"
    settings["run"].update(do_regmetrics=False, do_detection=False, do_deconvolution=False)
    db = {
        **suite2p.default_db(),
        "data_path": [str(recording.parent)],
        "file_list": [recording.name],
        "save_path0": str(folder),
        "input_format": "tif",
        "keep_movie_raw": True,
    }
    suite2p.run_s2p(db=db, settings=settings)
