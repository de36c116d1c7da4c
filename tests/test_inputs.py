"""Every public method with every kind of input: right to the stated precision, or one line that says what to pass.

A cell is a method and a kind of input. A network of float32 takes float32; float64 is converted where a method needs no
network. The empty batch has an empty answer where the method answers row by row.
"""

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn

import kakusan as kk
from harness.faults import catches
from kakusan import measure
from kakusan.models.networks import evaluate
from kakusan.nets import MLP, GaussianMLP
from kakusan.solvers import DDIM, solve

SHAPE = (2, 4, 4)
ROWS = 5
RIGHT, REFUSED, NAN = "right", "refused", "nan"


class Net(nn.Module):
    """A convolution, perhaps with classes and a learned variance."""

    def __init__(self, learned=False):
        super().__init__()
        self.first, self.classes = nn.Conv2d(2, 2 * (1 + learned), 3, padding=1), nn.Embedding(3, 2 * (1 + learned))
        self.learned = learned

    def forward(self, z, t, cond=None):
        out = self.first(z)
        if cond is not None:
            out = out + self.classes(cond)[:, :, None, None]
        if not self.learned:
            return out
        prediction, v = out.chunk(2, 1)
        return prediction, v.sigmoid()


def models():
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(0)
        schedule = kk.Schedule.cosine(10)
        conditional = kk.Diffusion(Net(), schedule, SHAPE, prediction="v")
        return {
            "diffusion": kk.Diffusion(Net(), schedule, SHAPE, prediction="v"),
            "learned": kk.Diffusion(Net(True), schedule, SHAPE, prediction="v", variance="learned"),
            "vae": kk.VAE(GaussianMLP(SHAPE, [8], (3,)), MLP((3,), [8], SHAPE), latent_shape=3),
            "hierarchy": kk.HierarchicalVAE(
                [GaussianMLP(SHAPE, [8], (3,)), GaussianMLP((3,), [8], (2,))],
                [MLP((3,), [8], SHAPE), GaussianMLP((2,), [8], (3,))],
                [3, 2],
            ),
            "mixture": kk.Mixture(conditional, kk.Classes([0.2, 0.3, 0.5])),
            "certain": kk.Mixture(conditional, 3, assign=lambda x: (x.flatten(1).sum(1) > 0).long()),
        }


def seeded():
    return torch.Generator().manual_seed(3)


X, Z = (torch.rand(2, ROWS, *SHAPE, generator=seeded()) * 2 - 1).unbind()
COUNTS = torch.tensor([[1.0, 0, 3], [2, 2, 1], [0, 0, 4], [5, 1, 0], [1, 1, 1]])
FEATURES, OTHERS = torch.randn(2, 120, 4, generator=seeded()).unbind()
PROBABILITIES = torch.softmax(torch.randn(120, 10, generator=seeded()), 1)
DIRICHLET = kk.DirichletMultinomial([1.0, 2.0, 0.5])
MODELS = models()


def flat(result):
    """All numbers of a result in one tensor."""
    if isinstance(result, torch.Tensor):
        return result.double().flatten()
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return torch.cat([flat(part) for part in result])
    if hasattr(result, "value"):
        return flat(result.value)
    if hasattr(result, "distances"):
        return flat(result.distances)
    return flat(result.mean) if hasattr(result, "mean") else torch.tensor([result or 0.0], dtype=torch.float64)


def fitted(chain, x):
    chain = copy.deepcopy(chain)
    kk.fit(chain, x, steps=2)
    return [p.detach() for p in chain.parameters()]


def found(num, features):
    clusters = kk.Clusters(num, (4,))
    clusters.find(features)
    return clusters.centres


def then(method, *more):
    """The method as a function of its first argument."""
    return lambda value: method(value, *more)


def with_generator(method):
    return lambda x: method(x, generator=seeded())


def methods():
    for name in ("diffusion", "learned"):
        chain = MODELS[name]
        for method in ("elbo_path", "elbo_pair", "elbo_single", "loss"):
            yield f"{name}.{method}", getattr(chain, method), X, (seeded,)
        for method in ("validate", "prior_kl"):
            yield f"{name}.{method}", getattr(chain, method), X, ()
        for method in ("terms", "draw_terms"):
            yield f"{name}.{method}", with_generator(getattr(chain, method)), X, ()
        for method in ("marginal", "data_estimate", "reverse", "predict", "encode", "decode"):
            yield f"{name}.{method}", then(getattr(chain, method), 3), X, ()
        yield f"{name}.posterior of x", partial(chain.posterior, Z, t=3), X, ()
        yield f"{name}.posterior of z", then(chain.posterior, X, 3), Z, ()
        for method in ("step_log_prob", "step_cross_entropy", "step_cost"):
            yield f"{name}.{method} of x", then(getattr(chain, method), Z, 3), X, ()
            yield f"{name}.{method} of z", partial(getattr(chain, method), X, t=3), Z, ()
    for name, chain in MODELS.items():
        yield f"elbo({name})", lambda x, c=chain: kk.elbo(c, x, seeded()), X, ()
        yield f"importance_bound({name})", lambda x, c=chain: kk.importance_bound(c, x, 3, seeded()), X, ()
        path = kk.bound.sample_path(chain, X, seeded())
        yield f"log_weight({name})", lambda x, c=chain, p=path: kk.log_weight(c, [x, *p[1:]]), X, ()
        yield f"fit({name})", lambda x, c=chain: fitted(c, x), X, ()
        if name not in ("diffusion", "learned"):
            yield f"{name}.loss", lambda x, c=chain: c.loss(x, seeded()), X, ()
            yield f"{name}.terms", lambda x, c=chain: c.terms(x, generator=seeded()), X, ()
            yield f"{name}.validate", chain.validate, X, ()
    for name in ("vae", "hierarchy"):
        yield f"{name}.encode", lambda x, c=MODELS[name]: c.encode(x, 1), X, ()
    yield "mixture.responsibilities", MODELS["mixture"].responsibilities, X, ()
    yield "sample from z", lambda z: kk.sample(MODELS["diffusion"], z=z, steps=3), Z, ()
    yield "solve", lambda z: solve(MODELS["diffusion"], z, DDIM(), [1, 5, 10]), Z, ()
    for method in ("log_evidence", "posterior", "terms"):
        yield f"dirichlet.{method}", getattr(DIRICHLET, method), COUNTS, ()
    yield "dirichlet.map_estimate", kk.DirichletMultinomial([2.0, 2.0, 2.0]).map_estimate, COUNTS, ()
    for method in ("elbo", "elbo_grad", "natural_step"):
        yield f"dirichlet.{method} of counts", then(getattr(DIRICHLET, method), COUNTS + 1.5), COUNTS, ()
        yield f"dirichlet.{method} of gamma", partial(getattr(DIRICHLET, method), COUNTS), COUNTS + 1.5, ()
    yield "elbo(dirichlet)", lambda x: kk.elbo(DIRICHLET, x, seeded()), COUNTS, ()
    for method in ("frechet_distance", "frechet_distances", "kernel_distance", "precision_recall"):
        yield f"measure.{method}", then(getattr(measure, method), OTHERS), FEATURES, ()
    yield "measure.two_sample_accuracy", lambda x: measure.two_sample_accuracy(x, OTHERS), FEATURES, ()
    yield "measure.nearest_two", lambda x: measure.nearest_two(x, OTHERS), FEATURES, ()
    yield "measure.measure_features", lambda x: measure.measure_features("mine", x, OTHERS).values, FEATURES, ()
    yield "measure.class_shares", measure.class_shares, PROBABILITIES, ()
    yield "measure.recognized", measure.recognized, PROBABILITIES, ()
    yield "measure.class_chi_square", lambda p: measure.class_chi_square(p, PROBABILITIES.flip(0)), PROBABILITIES, ()
    yield "Clusters.find", lambda x: found(2, x), FEATURES.double(), ()
    yield "Schedule.from_betas", lambda b: kk.Schedule.from_betas(b).alpha_bar, torch.tensor([0.1, 0.2, 0.3, 0.9]), ()
    yield "Classes", lambda p: kk.Classes(p).share, torch.tensor([0.5, 0.25, 0.25]), ()


METHODS = {name: (method, value, [make() for make in more]) for name, method, value, more in methods()}
INPUTS = {
    "bfloat16": lambda x: x.bfloat16(),
    "float16": lambda x: x.half(),
    "float64": lambda x: x.double(),
    "non-contiguous": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "channels last": lambda x: (
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.mT.contiguous().mT
    ),
    "empty": lambda x: x[:0],
    "one row": lambda x: x[:1],
    "one example": lambda x: x[0],
    "too narrow": lambda x: x[..., :-1],
    "one column": lambda x: x[:, :1],
    "flat": lambda x: x.flatten(1),
    "int64": lambda x: x.long(),
    "bool": lambda x: x > 0,
    "complex": lambda x: x.to(torch.complex64),
    "array": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "nothing": lambda x: None,
    "NaN": lambda x: x * torch.nan,
}
OTHER_ANSWERS = {  # inputs with a meaning of their own
    "dirichlet": {"one example"},
    "dirichlet gamma": {"int64"},
    "measure.nearest_two": {"int64", "bool"},  # pixels are whole numbers
    "measure.class_shares": {"too narrow", "one column"},
    "Clusters.find": {"int64"},
    "Schedule.from_betas": {"too narrow"},
}
HALF = ("bfloat16", "float16")  # where they are accepted, the answer is that for the rounded numbers


def meaning(method, kind):
    head = method.split(".")[0].split(" ")[0]
    mine = OTHER_ANSWERS.get(method, set()) | OTHER_ANSWERS.get(head, set())
    return kind in mine | (OTHER_ANSWERS["dirichlet gamma"] if method.endswith("of gamma") else set())


def verdict(method, kind):
    """ "right", "refused" or "nan"; AssertionError for anything else."""
    call, value, more = METHODS[method]
    if value.dim() == 1 and kind in ("channels last", "one column", "flat"):
        return RIGHT  # these need columns

    def answered(value):
        return flat(call(value, *[one.manual_seed(3) for one in more]))

    given = INPUTS[kind](value)
    try:
        answer = answered(given)
    except kk.InputError as error:
        return REFUSED if "\n" not in str(error) else "refused in several lines"
    except Exception as error:
        return f"{type(error).__name__} for {kind}: {error}"
    if kind == "NaN":
        return NAN if answer.isnan().any() else "NaN had no effect"
    if kind in ("empty", "one row") or meaning(method, kind):
        assert answer.isfinite().all()
        return RIGHT
    expected = answered(given.to(value.dtype) if kind in HALF else value)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-4)  # float32
    return RIGHT


MUST_WORK = {"non-contiguous", "channels last", "one row"}


@catches("""checks.py: numbers of half precision give a bound
- if x.dtype in (torch.float16, torch.bfloat16):
+ if False:""")
@catches("""models/diffusion.py: broadcasts: a posterior of any latent
-         check_together(x, z_t, self.event_shape)
-         check_steps(t, x, self.event_shape, self.depth)
+         check_steps(t, x, self.event_shape, self.depth)""")
@catches("""noise.py: an empty batch has no noise
- if not randomness:
+ if False:""")
@catches("""measure/metric.py: features of NaN are measured
- if not tensor.isfinite().all():
+ if False:""")
@catches("""checks.py: a bool is a number
- if tensor.dtype == torch.bool or tensor.is_complex():
+ if tensor.is_complex():""")
@pytest.mark.parametrize("method", METHODS)
def test_each_kind_of_input_is_right_or_refused_in_one_line(method):
    found = {kind: verdict(method, kind) for kind in INPUTS}
    assert set(found.values()) <= {RIGHT, REFUSED, NAN}
    assert found["nothing"] == REFUSED
    assert {kind for kind in MUST_WORK if found[kind] != RIGHT} <= ({"one row"} if needs_more(method) else set())


def needs_more(method):
    """Whether one row is too few, or does not go with the other rows."""
    return method.startswith(("measure", "log_weight", "Clusters", "Schedule", "Classes"))


@catches("""models/clusters.py: centroids follow the precision of the network
- if old is not None and new is not None and new.dtype != old.dtype:
+ if False:""")
def test_classes_stay_in_double_precision_when_the_network_is_converted():
    chain = kk.Diffusion(Net(), kk.Schedule.cosine(10), SHAPE, prediction="v")
    clusters = kk.Clusters(2, SHAPE)
    mixture = kk.Mixture(chain, clusters).float()
    assert clusters.centres.dtype == clusters.share.dtype == torch.float64
    assert mixture.chain.denoiser.first.weight.dtype == torch.float32
    assert mixture.half().clusters.share.dtype == torch.float64


def test_labels_are_class_indices_also_in_sampling():
    for labels in (torch.tensor([0.0, 1.0]), torch.tensor([0, 3]), torch.tensor([[0], [1]]), torch.tensor([-1, 0])):
        with pytest.raises(kk.InputError):
            kk.sample(MODELS["mixture"], cond=labels, steps=2)


@pytest.mark.parametrize("value", [None, [1.0], True, torch.tensor(True)])
def test_bits_per_dim_takes_tensors_and_numbers(value):
    with pytest.raises(kk.InputError):
        kk.bits_per_dim(value, 3)


def test_an_error_of_the_users_own_network_is_kept():
    def broken(z):
        raise RuntimeError("my own mistake")

    with pytest.raises(RuntimeError, match="my own mistake"):
        evaluate(kk.models.networks.as_module(broken), X, cond=None)
