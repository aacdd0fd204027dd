"""Two tensors, and the containers that they are written in by their own libraries.

Not for: files of a whole net (`foreign_nets`).
"""

import pickle

import torch

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
ARRAYS = {name: t.numpy() for name, t in TENSORS.items()}


def as_torch(path, content=TENSORS):
    torch.save(content, path)


def as_old_torch(path, content=TENSORS):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(path, content=ARRAYS, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def same(contents):
    assert contents.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(contents.tensors[name], tensor)
    return contents
