"""Datasets, batches, IDX files, MNIST from folders and mirrors."""

import gzip
import hashlib
import http.server
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import tinyml
from tinyml.data import (
    DataLoader,
    TensorDataset,
    _mnist,
    circle,
    fashion_mnist,
    mnist,
    moons,
    read_idx,
    spirals,
    write_idx,
    xor,
)
from tinyml.errors import ArgumentError, DataError, DTypeError, ShapeError, TinymlError

FILES = Path(__file__).resolve().parent.parent / "examples" / "data" / "mnist"


def numbers(n):
    """n samples, whose input and label both tell their index."""
    x = np.stack([np.arange(n), -np.arange(n)], axis=1).astype(np.float32)
    return TensorDataset(x, np.arange(n))


def labels_of(loader):
    return [y.tolist() for _, y in loader]


def flat(lists):
    return [item for part in lists for item in part]


# -- TensorDataset


def test_dataset_gives_samples_by_index():
    dataset = TensorDataset(tinyml.tensor([[1.0, 2.0], [3.0, 4.0]]), np.array([5, 6]))
    x, y = dataset[1]
    assert x.tolist() == [3.0, 4.0]
    assert y.item() == 6
    assert y.dtype is tinyml.int64
    assert len(dataset) == 2
    assert repr(dataset) == "TensorDataset(float32[2, 2], int64[2])"


def test_dataset_keeps_arrays_without_a_copy():
    array, tensor = np.zeros((3, 2), np.float32), tinyml.zeros(3, 2)
    dataset = TensorDataset(array, tensor)
    assert np.shares_memory(dataset.arrays[0], array)
    assert np.shares_memory(dataset.arrays[1], tensor.numpy())


def test_dataset_takes_parameters_and_lists():
    weight = tinyml.ones(2, 3, requires_grad=True)
    x, y = next(iter(DataLoader(TensorDataset(weight, [1.5, 2.5]), batch_size=2)))
    assert not x.requires_grad
    assert y.dtype is tinyml.float32
    assert y.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((), ArgumentError, "no tensors"),
        ((np.zeros((3, 2)), np.zeros(4)), ShapeError, r"\(3, 2\), \(4,\).*equal first extents"),
        ((np.zeros(3), np.zeros(())), ShapeError, "at least one dimension"),
        ((np.array(["a", "b"]),), DTypeError, "numbers or bools"),
        ((np.array([1, None]),), DTypeError, "numbers or bools"),
        (([[1.0], [1.0, 2.0]],), ShapeError, "lengths"),
    ],
)
def test_dataset_refuses(arrays, error, message):
    with pytest.raises(error, match=message):
        TensorDataset(*arrays)


# -- DataLoader


def test_batches_in_order_with_a_smaller_last():
    loader = DataLoader(numbers(5), batch_size=2)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [type(batch) for batch in batches] == [tuple] * 3
    assert [x.shape for x, _ in batches] == [(2, 2), (2, 2), (1, 2)]
    assert [x.dtype for x, _ in batches] == [tinyml.float32] * 3
    assert labels_of(loader) == [[0, 1], [2, 3], [4]]
    assert batches[1][0].tolist() == [[2.0, -2.0], [3.0, -3.0]]


def test_drop_last():
    loader = DataLoader(numbers(5), batch_size=2, drop_last=True)
    assert len(loader) == 2
    assert labels_of(loader) == [[0, 1], [2, 3]]
    assert list(DataLoader(numbers(2), batch_size=3, drop_last=True)) == []


@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000, 5000])
@pytest.mark.parametrize("drop_last", [False, True])
def test_shuffle_visits_each_sample_once(batch_size, drop_last):
    # 1,000 rows of 4 kB: several blocks of the gather, the last one shorter.
    n = 1000
    x = np.repeat(np.arange(n, dtype=np.float32)[:, None], 1024, axis=1)
    loader = DataLoader(TensorDataset(x, np.arange(n)), batch_size, True, drop_last, seed=0)
    seen = []
    for inputs, labels in loader:
        assert inputs.shape == (len(labels), 1024)
        assert (inputs.numpy() == labels.numpy()[:, None]).all()
        seen += labels.tolist()
    kept = n - n % batch_size if drop_last else n
    assert len(seen) == len(set(seen)) == kept
    assert seen != sorted(seen) or kept == 0


def test_batches_are_independent_of_the_source_and_of_each_other():
    array = np.arange(4, dtype=np.float32)
    for shuffle in (False, True):
        first, second = (x for (x,) in DataLoader(TensorDataset(array), 2, shuffle))
        before = second.tolist()
        first.numpy()[:] = 99
        assert second.tolist() == before
        assert array.tolist() == [0, 1, 2, 3]


def test_seed_reproduces_and_is_independent():
    first, second = (DataLoader(numbers(50), 7, shuffle=True, seed=3) for _ in range(2))
    epochs = [labels_of(first), labels_of(first)]
    tinyml.manual_seed(99)
    tinyml.rand(5)
    assert [labels_of(second), labels_of(second)] == epochs
    assert epochs[0] != epochs[1]
    assert labels_of(DataLoader(numbers(50), 7, shuffle=True, seed=4)) != epochs[0]


def test_a_seeded_loader_leaves_the_default_generator_alone():
    tinyml.manual_seed(1)
    expected = tinyml.rand(3).tolist()
    tinyml.manual_seed(1)
    list(DataLoader(numbers(9), shuffle=True, seed=5))
    assert tinyml.rand(3).tolist() == expected


def test_manual_seed_fixes_the_order():
    loader = DataLoader(numbers(50), 7, shuffle=True)
    tinyml.manual_seed(0)
    epochs = [labels_of(loader), labels_of(loader)]
    assert epochs[0] != epochs[1]
    tinyml.manual_seed(0)
    assert [labels_of(loader), labels_of(loader)] == epochs
    tinyml.manual_seed(1)
    assert labels_of(loader) != epochs[0]


def test_the_order_is_drawn_by_iter():
    loader = DataLoader(numbers(50), 50, shuffle=True)
    tinyml.manual_seed(0)
    iterator = iter(loader)
    tinyml.manual_seed(1)
    drawn = labels_of(iterator)
    tinyml.manual_seed(0)
    assert drawn == labels_of(loader)


def test_two_iterators_at_once_do_not_disturb_each_other():
    loader = DataLoader(numbers(6), 2, shuffle=True, seed=0)
    pairs = list(zip(loader, loader, strict=True))
    for side in range(2):
        assert sorted(flat(pair[side][1].tolist() for pair in pairs)) == list(range(6))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", tinyml.float32),
        ("float64", tinyml.float64),
        ("float16", tinyml.float32),
        ("uint8", tinyml.int64),
        ("int32", tinyml.int64),
        ("bool", tinyml.bool),
        (">f4", tinyml.float32),
        (">i8", tinyml.int64),
    ],
)
def test_batches_have_the_nearest_dtype(dtype, expected, shuffle):
    array = np.array([1, 0, 1], dtype=dtype)
    batches = [x for (x,) in DataLoader(TensorDataset(array), 2, shuffle, seed=0)]
    assert [x.dtype for x in batches] == [expected] * 2
    assert sorted(flat(x.tolist() for x in batches)) == [0, 1, 1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_strided_and_zero_width_arrays(shuffle):
    strided = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    empty = np.zeros((4, 0), np.float32)
    dataset = TensorDataset(strided, empty, strided.T[0])
    assert all(array.flags.c_contiguous for array in dataset.arrays), "fast to gather from"
    batch = next(iter(DataLoader(dataset, 4, shuffle, seed=0)))
    assert sorted(batch[0].tolist()) == strided.tolist()
    assert batch[1].shape == (4, 0)
    assert batch[0].numpy()[:, 0].tolist() == batch[2].tolist()


def test_a_list_of_pairs_is_a_dataset():
    pairs = [(np.array([i, i], dtype=np.float32), i) for i in range(5)]
    (x, y), _, (_, last) = DataLoader(pairs, batch_size=2)
    assert x.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert (y.tolist(), y.dtype) == ([0, 1], tinyml.int64)
    assert last.tolist() == [4]


def test_generic_samples_are_stacked_by_part():
    samples = [(tinyml.ones(2, requires_grad=True), 0.5, np.float64(1.5), True), ([1, 2], 3, 4, 0)]
    tensor, number, scalar, flag = next(iter(DataLoader(samples[:1] * 3, batch_size=3)))
    assert (tensor.shape, tensor.requires_grad) == ((3, 2), False)
    assert (number.dtype, scalar.dtype, flag.dtype) == (
        tinyml.float32,
        tinyml.float64,
        tinyml.bool,
    )
    rows, *_ = next(iter(DataLoader(samples[1:])))
    assert rows.tolist() == [[1, 2]]


def test_single_part_samples_give_tuples_of_one():
    (batch,) = DataLoader([1.0, 2.0], batch_size=2)
    assert isinstance(batch, tuple)
    assert batch[0].tolist() == [1.0, 2.0]


def test_generic_datasets_shuffle_alike():
    class Squares:
        def __len__(self):
            return 20

        def __getitem__(self, index):
            if not 0 <= index < 20:
                raise IndexError(index)
            return np.float32(index), index

    generic = labels_of(DataLoader(Squares(), 3, True, True, seed=8))
    assert generic == labels_of(DataLoader(numbers(20), 3, True, True, seed=8))
    assert len(generic) == 6


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([(1.0, 2.0), (1.0,)], ShapeError, "1 and 2 parts"),
        ([np.zeros(2), np.zeros(3)], ShapeError, r"part 0.*\(2,\) and \(3,\).*pad or crop"),
        ([(0, [1, 2]), (0, [1])], ShapeError, "part 1"),
        ([(0, "cat"), (0, "dog")], DTypeError, "numbers or bools"),
    ],
)
def test_samples_that_do_not_stack(samples, error, message):
    with pytest.raises(error, match=message):
        next(iter(DataLoader(samples, batch_size=2)))


@pytest.mark.parametrize(
    ("dataset", "batch_size", "error", "message"),
    [
        ([], 1, ArgumentError, "empty"),
        (TensorDataset(np.zeros((0, 3))), 1, ArgumentError, "empty"),
        ([1], 0, ArgumentError, r"got batch_size 0.*len\(dataset\)"),
        ([1], -3, ArgumentError, "got batch_size -3"),
        ([1], 2.0, DTypeError, "got batch_size 2.0"),
        ((i for i in range(3)), 1, DTypeError, "generator.*__len__"),
    ],
)
def test_loader_refuses(dataset, batch_size, error, message):
    with pytest.raises(error, match=message) as info:
        DataLoader(dataset, batch_size)
    assert isinstance(info.value, TinymlError)


def test_an_epoch_frees_its_batches():
    loader = DataLoader(numbers(1000), 10, shuffle=True)
    list(loader)
    before = tinyml.live_nodes()
    for _ in loader:
        pass
    del _
    assert tinyml.live_nodes() == before


# -- IDX


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 2), ()])
def test_idx_round_trip(tmp_path, dtype, suffix, shape):
    array = (np.random.default_rng(0).random(shape) * 200 - 80).astype(dtype)
    path = tmp_path / f"file{suffix}"
    write_idx(path, array)
    back = read_idx(str(path))
    assert back.dtype == np.dtype(dtype)
    assert back.dtype.isnative
    assert back.flags.writeable
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)


def test_idx_bytes_by_hand(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0x01, 0x02, 0xFF, 0xFE]))
    assert read_idx(path).tolist() == [[258, -2]]
    write_idx(tmp_path / "again", np.array([[258, -2]], dtype=">i2"))
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    write_idx(tmp_path / "a.gz", np.arange(5, dtype=np.uint8))
    (tmp_path / "a").write_bytes((tmp_path / "a.gz").read_bytes())
    (tmp_path / "b.gz").write_bytes(gzip.decompress((tmp_path / "a").read_bytes()))
    assert read_idx(tmp_path / "a").tolist() == read_idx(tmp_path / "b.gz").tolist() == [*range(5)]


GOOD = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0", "starts with 00 00, expected 00 00, a type"),
        (b"\0\1" + GOOD[2:], "starts with 00 01 08 01"),
        (b"\0\0\x0a" + GOOD[3:], "starts with 00 00 0a 01, expected .*08, 09, 0b, 0c, 0d, 0e"),
        (b"\x89PNG....", "starts with 89 50 4e 47"),
        (GOOD[:6], "ends at byte 6 within its header, expected 8 bytes"),
        (GOOD[:-1], r"cut short, got 10 bytes, expected 11 for shape \(3,\) of uint8"),
        (GOOD[:8], "cut short, got 8 bytes, expected 11"),
        (GOOD + b"\0", "too long, got 12 bytes, expected 11"),
        (b"\0\0\x08\x04" + b"\xff" * 16, "cut short, got 20 bytes, expected 340282"),
        (b"\0\0\x08\x28" + b"\0" * 160, "40 dimensions"),
        (gzip.compress(GOOD)[:-3], "broken gzip"),
        (gzip.compress(GOOD)[:12], "broken gzip"),
        (b"\x1f\x8b\x08" + b"garbage" * 5, "broken gzip"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, "broken gzip"),
        (gzip.compress(GOOD[:-1]), "cut short"),
    ],
)
def test_broken_idx(tmp_path, content, message):
    path = tmp_path / "digits"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as info:
        read_idx(path)
    assert str(path) in str(info.value)
    assert isinstance(info.value, ValueError)


def test_missing_idx(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


def test_write_idx_refuses(tmp_path):
    with pytest.raises(DTypeError, match="int64, expected one of uint8"):
        write_idx(tmp_path / "file", np.arange(3))
    assert not (tmp_path / "file").exists()


# -- MNIST


@pytest.fixture(autouse=True)
def secluded(tmp_path, monkeypatch):
    """No test sees the user's cache, a proxy or the network."""
    monkeypatch.setenv("TINYML_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    for source in ("_MNIST", "_FASHION_MNIST"):
        change(monkeypatch, source, mirrors=("http://127.0.0.1:9/",))
    return tmp_path / "data" / "mnist"


def change(monkeypatch, source="_MNIST", **fields):
    """Other mirrors or checksums for a source."""
    monkeypatch.setattr(_mnist, source, getattr(_mnist, source)._replace(**fields))


@pytest.fixture(scope="module")
def digits():
    return mnist(FILES)


def test_mnist_is_what_it_should_be(digits):
    train, test = digits
    (images, labels), (test_images, test_labels) = train.arrays, test.arrays
    assert (images.shape, images.dtype) == ((60000, 1, 28, 28), np.float32)
    assert (labels.shape, labels.dtype) == ((60000,), np.int64)
    assert (test_images.shape, test_labels.shape) == ((10000, 1, 28, 28), (10000,))
    assert (images.min(), images.max()) == (0.0, 1.0)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts, test_counts = np.bincount(labels).tolist(), np.bincount(test_labels).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test_counts == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    np.testing.assert_array_equal(images[:100, 0] * 255, read_idx(FILES / "train-images-idx3-ubyte.gz")[:100])


def test_the_first_digit_looks_like_a_five(digits):
    image = digits.train.arrays[0][0, 0]
    assert image[:5].sum() == image[25:].sum() == image[:, :4].sum() == 0
    assert image[5, 12:16].min() > 0
    assert digits.train[0][1].item() == 5


def test_mnist_flat(digits):
    flat_digits = mnist(FILES, flatten=True)
    assert flat_digits.test.arrays[0].shape == (10000, 784)
    np.testing.assert_array_equal(flat_digits.test.arrays[0], digits.test.arrays[0].reshape(10000, 784))


def test_the_files_have_the_published_checksums():
    for name, sha256 in _mnist._MNIST.sha256.items():
        content = gzip.decompress((FILES / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == sha256
        assert f"| {name} | {sha256} |" in (FILES / "README.md").read_text()


@pytest.fixture
def small():
    """The content of four small files in MNIST's form."""
    random = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 6), ("t10k", 3)):
        header = bytes([0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 28, 0, 0, 0, 28])
        files[f"{part}-images-idx3-ubyte"] = header + random.bytes(n * 784)
        files[f"{part}-labels-idx1-ubyte"] = bytes([0, 0, 8, 1, 0, 0, 0, n, *range(n)])
    return files


def put(folder, files, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_from_root_or_cache(secluded, small, tmp_path, zipped):
    put(tmp_path / "mine", small, zipped)
    assert len(mnist(tmp_path / "mine").train) == 6
    assert len(mnist(str(tmp_path / "mine")).test) == 3
    put(secluded, small, zipped)
    assert mnist().train.arrays[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_root_comes_before_the_cache(secluded, small, tmp_path):
    put(secluded, small)
    shorter = bytes([0, 0, 8, 1, 0, 0, 0, 6, 9, 9, 9, 9, 9, 9])
    put(tmp_path / "mine", {"train-labels-idx1-ubyte": shorter})
    train, test = mnist(tmp_path / "mine")
    assert train.arrays[1].tolist() == [9] * 6
    assert test.arrays[1].tolist() == [0, 1, 2]


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYML_DATA", str(tmp_path / "a"))
    assert _mnist._cache("mnist") == tmp_path / "a" / "mnist"
    monkeypatch.delenv("TINYML_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert _mnist._cache("mnist") == tmp_path / "b" / "tinyml" / "mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert _mnist._cache("mnist") == tmp_path / ".cache" / "tinyml" / "mnist"


def test_mnist_refuses_files_that_do_not_belong_together(small, tmp_path):
    small["train-labels-idx1-ubyte"] = small["t10k-labels-idx1-ubyte"]
    put(tmp_path, small)
    with pytest.raises(DataError, match=r"\(6, 28, 28\).*\(3,\).*same set"):
        mnist(tmp_path)


def test_mnist_names_a_broken_file(small, tmp_path):
    small["t10k-images-idx3-ubyte"] = small["t10k-images-idx3-ubyte"][:-5]
    put(tmp_path, small)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: cut short"):
        mnist(tmp_path)


class Mirror:
    """An HTTP server on this machine that hands out `files` and notes what was asked for."""

    def __init__(self, files):
        mirror = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.asked.append(self.path)
                content = files.get(self.path.removeprefix("/"))
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + mirror.withheld))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.withheld = 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def sums(monkeypatch, small):
    """Makes the small files the expected ones."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
    change(monkeypatch, sha256=hashes)
    change(monkeypatch, "_FASHION_MNIST", sha256=hashes)


def zipped(files):
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


@pytest.mark.usefixtures("sums")
def test_download_fills_the_cache(secluded, small, monkeypatch):
    with Mirror(zipped(small)) as mirror:
        change(monkeypatch, mirrors=(mirror.url,))
        train, test = mnist()
    assert train.arrays[1].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(test) == 3
    assert sorted(mirror.asked) == sorted(f"/{name}.gz" for name in small)
    assert sorted(path.name for path in secluded.iterdir()) == sorted(zipped(small))
    assert len(mnist().train) == 6, "now without the mirror"


@pytest.mark.usefixtures("sums")
def test_download_only_what_is_missing(secluded, small, monkeypatch, tmp_path):
    put(tmp_path / "mine", {name: small[name] for name in small if "train" in name})
    with Mirror(zipped(small)) as mirror:
        change(monkeypatch, mirrors=(mirror.url,))
        assert len(mnist(tmp_path / "mine").test) == 3
    assert all("t10k" in path for path in mirror.asked)
    assert len(list(secluded.iterdir())) == 2


@pytest.mark.usefixtures("sums")
def test_the_second_mirror_serves_when_the_first_does_not(small, monkeypatch):
    with Mirror({}) as empty, Mirror(zipped(small)) as full:
        change(monkeypatch, mirrors=(empty.url, full.url))
        assert len(mnist().train) == 6
    assert len(empty.asked) == len(full.asked) == 4


@pytest.mark.usefixtures("sums")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: gzip.compress(content[:-1] + b"\xff"), "SHA-256 .*, expected "),
        (lambda content: gzip.compress(content)[:-4], "broken gzip"),
        (lambda _: b"<html>log in to the hotel's network</html>", "SHA-256 "),
        (lambda _: b"", "SHA-256 "),
    ],
)
def test_a_damaged_download_is_refused_and_leaves_nothing(secluded, small, monkeypatch, damage, message):
    files = {f"{name}.gz": damage(content) for name, content in small.items()}
    with Mirror(files) as mirror:
        change(monkeypatch, mirrors=(mirror.url,))
        with pytest.raises(DataError, match=message):
            mnist()
    assert not secluded.exists() or list(secluded.iterdir()) == []


@pytest.mark.usefixtures("sums")
def test_a_connection_that_breaks_off_is_reported(secluded, small, monkeypatch):
    with Mirror(zipped(small)) as mirror:
        mirror.withheld = 10
        change(monkeypatch, mirrors=(mirror.url,))
        with pytest.raises(DataError, match="IncompleteRead"):
            mnist()
    assert not secluded.exists()


def test_a_mirror_that_hangs_is_given_up(monkeypatch):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as silent:
        change(monkeypatch, mirrors=(f"http://127.0.0.1:{silent.server_port}/",))
        monkeypatch.setattr(_mnist, "_TIMEOUT", 0.05)
        with pytest.raises(DataError, match="timed out"):
            mnist()


@pytest.mark.usefixtures("sums")
def test_a_cache_that_cannot_be_written_is_reported(secluded, small, monkeypatch):
    secluded.parent.parent.mkdir(exist_ok=True)
    secluded.parent.write_text("a file where the folder should be")
    with Mirror(zipped(small)) as mirror:
        change(monkeypatch, mirrors=(mirror.url,))
        with pytest.raises(DataError, match=r"Not a directory|exists"):
            mnist()


def test_failure_names_every_place_and_the_way_out(secluded, monkeypatch, tmp_path):
    with Mirror({}) as mirror:
        change(monkeypatch, mirrors=(f"{mirror.url}one/", "http://127.0.0.1:9/"))
        with pytest.raises(DataError) as info:
            mnist(tmp_path / "mine")
    message = str(info.value)
    for place in (tmp_path / "mine", secluded, f"{mirror.url}one/: HTTP Error 404"):
        assert str(place) in message
    assert "http://127.0.0.1:9/: " in message
    assert all(name in message for name in _mnist._MNIST.sha256)
    assert f"into {secluded}" in message
    assert "mnist(root)" in message


@pytest.mark.usefixtures("sums")
def test_fashion_mnist_is_a_source_of_its_own(secluded, small, monkeypatch, tmp_path):
    assert _mnist._FASHION_MNIST.sha256.keys() == _mnist._MNIST.sha256.keys()
    put(secluded, small)
    with pytest.raises(DataError, match=r"^fashion_mnist: found train-images-idx3-ubyte.*\n") as info:
        fashion_mnist(tmp_path / "mine")
    assert str(secluded.parent / "fashion-mnist") in str(info.value)
    assert "as in fashion_mnist(root)" in str(info.value)
    with Mirror(zipped(small)) as mirror:
        change(monkeypatch, "_FASHION_MNIST", mirrors=(mirror.url,))
        train, test = fashion_mnist()
    assert (len(train), len(test)) == (6, 3)
    assert sorted(path.name for path in (secluded.parent / "fashion-mnist").iterdir()) == sorted(zipped(small))
    assert fashion_mnist(flatten=True).train.arrays[0].shape == (6, 784)


def test_no_two_files_of_the_sources_have_one_checksum():
    sums = [*_mnist._MNIST.sha256.values(), *_mnist._FASHION_MNIST.sha256.values()]
    assert len(set(sums)) == 8
    assert all(len(bytes.fromhex(each)) == 32 for each in sums)


def test_loading_does_not_copy_images_more_than_needed():
    tracemalloc.start()
    try:
        test = mnist(FILES, flatten=True).test
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert test.arrays[0].nbytes == 10000 * 784 * 4
    # The float32 images, and on top of them at most the file twice: as read, and as uint8.
    assert peak < 60000 * 784 * 4 + 3 * 60000 * 784


def test_xor():
    x, y = xor()
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((4, 2), tinyml.float32, (4, 1), tinyml.float32)
    assert [int(a) ^ int(b) for a, b in x.tolist()] == y.flatten().tolist()
    assert sorted(x.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


TOYS = {
    "moons": moons,
    "moons clean": lambda n=100, seed=None: moons(n, 0.0, seed),
    "circle": circle,
    "spirals": spirals,
    "spirals of three": lambda n=100, seed=None: spirals(n, 0.1, 2.0, 3, seed),
}


@pytest.mark.parametrize("make", TOYS.values(), ids=TOYS)
def test_toys_are_repeatable(make):
    x, y = make(seed=1)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((100, 2), tinyml.float32, (100,), tinyml.int64)
    tinyml.manual_seed(0)
    before = tinyml.rand(1).item()
    tinyml.manual_seed(0)
    again, labels = make(100, seed=1)
    assert tinyml.rand(1).item() == before, "a seed leaves the global generator alone"
    assert again.tolist() == x.tolist()
    assert labels.tolist() == y.tolist()
    assert make(seed=2)[0].tolist() != x.tolist()
    tinyml.manual_seed(3)
    free = make()[0].tolist()
    assert make()[0].tolist() != free, "without a seed each call draws anew"
    tinyml.manual_seed(3)
    assert make()[0].tolist() == free
    assert y.tolist() != sorted(y.tolist()), "in no order"
    for n in (1, 2, 7):
        assert make(n, seed=0)[0].shape == (n, 2)


def test_moons():
    x, y = (part.numpy() for part in moons(101, 0.0, seed=5))
    assert np.bincount(y).tolist() == [50, 51]
    above, below = x[y == 0], x[y == 1]
    np.testing.assert_allclose(np.hypot(above[:, 0], above[:, 1]), 1, rtol=1e-6)
    np.testing.assert_allclose(np.hypot(below[:, 0] - 1, below[:, 1] - 0.5), 1, rtol=1e-6)
    assert above[:, 1].min() > -1e-6
    assert below[:, 1].max() < 0.5 + 1e-6
    noisy, labels = (part.numpy() for part in moons(20_000, 0.1, seed=5))
    radii = np.hypot(*noisy[labels == 0].T)
    assert radii.std() == pytest.approx(0.1, rel=0.03)


def test_circle():
    x, y = (part.numpy() for part in circle(20_000, seed=5))
    assert np.abs(x).max() <= 1
    assert x.std(axis=0) == pytest.approx(3**-0.5, rel=0.02)
    assert y.mean() == pytest.approx(0.5, abs=0.02), "half of the points on average"
    radii = np.hypot(*x.T.astype(np.float64))
    assert radii[y == 1].max() < (2 / np.pi) ** 0.5 < radii[y == 0].min()


def test_spirals():
    x, y = (part.numpy().astype(np.float64) for part in spirals(301, 0.0, turns=1.5, classes=3, seed=5))
    assert np.bincount(y.astype(int)).tolist() == [101, 100, 100]
    radii = np.hypot(*x.T)
    assert 0 < radii.min() < 0.01
    assert radii.max() == pytest.approx(1, rel=1e-6)
    turned = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) - 1.5 * radii - y / 3
    np.testing.assert_allclose(turned, np.round(turned), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: moons(0), "moons: got 0 points, expected at least 1"),
        (lambda: moons(10, -0.1), "moons: got noise -0.1, expected"),
        (lambda: moons(10, float("nan")), "moons: got noise nan"),
        (lambda: circle(-1), "circle: got -1 points"),
        (lambda: spirals(10, classes=0), "spirals: got 0 classes"),
        (lambda: spirals(10, turns=float("inf")), "spirals: got inf turns"),
    ],
)
def test_toys_refuse(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()
