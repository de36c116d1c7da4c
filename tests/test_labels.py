"""Labels: dropout to a null class, few labels passed between clusters, and bounds that are summed over missing labels."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from harness.faults import catches
from harness.support import F64, LIMIT, f64, seeded
from kakusan.errors import InputError
from kakusan.models.clusters import UNLABELED, Classes, coarse
from kakusan.models.diffusion import Diffusion
from kakusan.models.labels import Labels, propagate
from kakusan.models.mixture import Mixture
from kakusan.models.vae import VAE
from kakusan.oracles import MixtureWorld
from kakusan.schedule import Schedule
from test_laws import ExactByClass

SHARE, MEANS, VARS = f64([0.2, 0.5, 0.3]), f64([-0.8, 0.1, 0.9]), f64([0.2, 0.3, 0.15])
WORLD = MixtureWorld(SHARE, MEANS, VARS)
X = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
K = torch.arange(9) % 3


def named(dropout=0.0, clusters=0):
    labels = Labels(3, (1,), dropout, clusters)
    labels.share.copy_(SHARE)
    return labels


class Told(nn.Module):
    """Denoiser that records the classes of its calls."""

    def __init__(self):
        super().__init__()
        self.weight, self.told = nn.Parameter(torch.ones((), dtype=F64)), []

    def forward(self, z, t, cond):
        self.told += cond.tolist()
        return self.weight * z


@catches("""models/labels.py: label dropout keeps the dropped ones and drops the others
- < self.dropout
+ > self.dropout""")
@catches("""models/labels.py: a dropped label becomes the last class
- k.masked_fill(dropped.to(k.device), self.null)
+ k.masked_fill(dropped.to(k.device), self.num - 1)""")
def test_training_replaces_a_label_by_the_null_class_as_often_as_stated():
    network = Told()
    chain = Mixture(Diffusion(network, Schedule.cosine(5), 1, "v"), named(dropout=0.3)).double()
    k = torch.arange(3).repeat(4000)
    chain.loss(torch.zeros(len(k), 1, dtype=F64), seeded(0), cond=k)
    told = torch.tensor(network.told)
    dropped = told == 3
    assert abs(dropped.double().mean() - 0.3) < LIMIT * math.sqrt(0.3 * 0.7 / len(k))
    assert torch.equal(told[~dropped], k[~dropped])


def test_without_label_dropout_every_label_is_kept_and_no_noise_is_drawn():
    network = Told()
    chain = Diffusion(network, Schedule.cosine(5), 1, "v").double()
    ours = Mixture(chain, named()).loss(X, seeded(0), cond=K)
    assert network.told == K.tolist()
    assert_close(ours, chain.loss(X, seeded(0), cond=K), rtol=0, atol=0)


def test_label_dropout_leaves_the_bound_as_it_is():
    chain = ExactByClass(MEANS, VARS)
    with_null, without = Mixture(chain, named(dropout=0.3)), Mixture(chain, named())
    terms = [sum(one.terms(X, K, seeded(0)).values()) for one in (with_null, without)]
    assert_close(terms[0], terms[1], rtol=0, atol=0)


@catches("""models/mixture.py: the entropy of a missing label is left out
- return torch.special.entr(q).sum(1) + torch.xlogy(q, share).sum(1)
+ return torch.xlogy(q, share).sum(1)""")
@catches("""models/mixture.py: a missing label counts only its likeliest class
- weighted = q[q > 0]
+ weighted = (q == q.amax(1, keepdim=True)).double()[q > 0]""")
def test_the_loss_of_an_unlabeled_example_is_its_exact_density_and_of_a_labeled_one_that_of_its_class():
    k = K.clone()
    k[::2] = UNLABELED
    chain = Mixture(ExactByClass(MEANS, VARS), 3, SHARE)
    of_class = torch.distributions.Normal(MEANS[K], VARS[K].sqrt()).log_prob(X[:, 0])
    exact = torch.where(k == UNLABELED, WORLD.log_prob(X), of_class)
    assert_close(chain.loss(X, seeded(0), cond=k), -exact, rtol=0, atol=1e-10)


def three_groups(num=600):
    """Examples in three groups far apart with a label each, of which the first of each group alone is known."""
    places = f64([[-40.0, 0.0], [0.0, 40.0], [40.0, -10.0]])
    k = torch.arange(num) % 3
    x = places[k] + torch.randn(num, 2, generator=seeded(1), dtype=F64)
    few = torch.full_like(k, UNLABELED)
    few[:3] = k[:3]
    return x, k, few


@catches("""models/labels.py: labels do not reach neighbors
- - NEIGHBOR_SHARE * degree
+ - 0 * degree""")
def test_one_label_in_each_group_names_every_example():
    x, k, few = three_groups()
    labels = Labels(3, (2,), clusters=12)
    labels.observe(few, coarse(x))
    probs = labels.probs_of(x)
    assert_close(probs.sum(1), torch.ones(len(x), dtype=F64))
    assert torch.equal(probs.argmax(1), k)
    assert probs.amax(1).min() > 0.99
    assert_close(labels.share, f64([1 / 3] * 3), rtol=0, atol=1e-2)  # 1e-3 of the likeliest class goes to each other


def test_a_known_label_is_kept_and_a_missing_one_is_drawn_from_its_cluster():
    x, k, few = three_groups()
    labels = Labels(3, (2,), clusters=12)
    labels.observe(few, coarse(x))
    wrong = (k + 1) % 3
    wrong[100:] = UNLABELED
    completed = labels.completed(x, wrong, seeded(2))
    assert torch.equal(completed[:100], wrong[:100])
    assert (completed[100:] == k[100:]).double().mean() > 0.98


def test_a_cluster_without_a_path_to_a_label_has_the_shares_of_the_labels():
    counts = torch.zeros(4, 2, dtype=F64)
    counts[0] = f64([3.0, 1.0])
    places = f64([[0.0], [0.1], [1e9], [1e9 + 0.1]])
    found = torch.tensor([True, True, True, False])
    rows = propagate(counts, places, found)
    assert_close(rows[3], f64([0.75, 0.25]))
    assert_close(rows.sum(1), torch.ones(4, dtype=F64))
    assert rows[1, 0] > rows[1, 1]


def propagated(counts, places):
    """Equation 4 of Zhou et al. 2004 with loops, for clusters that are all found: a sum over ways of any length."""
    num = len(places)
    square = [[(a - b).square().sum().item() for b in places] for a in places]
    near = [sorted(range(num), key=lambda j, row=row: row[j])[1:5] for row in square]  # four others
    width = [math.sqrt(square[i][near[i][-1]]) for i in range(num)]
    weight = torch.zeros(num, num, dtype=F64)
    for i in range(num):
        for j in near[i]:
            weight[i, j] = weight[j, i] = math.exp(-square[i][j] / (width[i] * width[j]))
    degree = weight.sum(1)
    way = 0.9 * weight / (degree[:, None] * degree).sqrt()
    total = arrived = counts
    for _ in range(400):  # 0.9^400 is 5e-19
        arrived = way @ arrived
        total = total + arrived
    sharp = (total / total.amax(1, keepdim=True)).square() + 1e-3
    return sharp / sharp.sum(1, keepdim=True)


@catches("""models/labels.py: a label reaches two neighbors directly
- NEIGHBORS = 4
+ NEIGHBORS = 2""")
@catches("""models/labels.py: nine tenths of a label are its own
- NEIGHBOR_SHARE = 0.9
+ NEIGHBOR_SHARE = 0.1""")
@catches("""models/labels.py: propagated shares are not sharpened
- SHARPNESS = 2
+ SHARPNESS = 1""")
@catches("""models/labels.py: the least probability of a class is ten times larger
- FLOOR = 1e-3
+ FLOOR = 1e-2""")
@catches("""models/labels.py: neighbors on one side only count half
- weights = torch.maximum(weights, weights.T)
+ weights = (weights + weights.T) / 2""")
@catches("""models/labels.py: the scale of a distance is that of one of its ends
- (width * width[place, 0])
+ (width * width)""")
def test_labels_go_from_cluster_to_cluster_as_the_equation_says():
    places = torch.randn(9, 2, generator=seeded(3), dtype=F64) * f64([[3.0, 1.0]])
    counts = torch.zeros(9, 3, dtype=F64)
    counts[0, 0], counts[4, 1], counts[4, 2], counts[7, 2] = 2, 1, 1, 3
    found = propagate(counts, places, torch.ones(9, dtype=torch.bool))
    assert_close(found, propagated(counts, places), rtol=1e-9, atol=0)


@catches("""models/labels.py: labels of one class count once in a cluster
- accumulate=True
+ accumulate=False""")
def test_the_labels_of_a_cluster_are_counted():
    labels, k = Labels(2, (1,), clusters=1), torch.full((50,), UNLABELED)
    k[:4] = torch.tensor([0, 0, 1, 0])
    labels.observe(k, torch.zeros(50, 1, dtype=F64))
    sharp = f64([1.0, 1 / 9]) + 1e-3  # one label for three, squared
    assert_close(labels.named[0], sharp / sharp.sum(), rtol=1e-12, atol=0)
    assert_close(labels.share, (f64([3.0, 1.0]) + 46 * labels.named[0]) / 50, rtol=1e-12, atol=0)


@catches("""models/labels.py: class probabilities of a cluster may have any sum
- or not ((total - 1).abs() < 1e-6).all():
+ or False:""")
@catches("""models/labels.py: class probabilities of a cluster may be negative
- if not (self.named >= 0).all() or
+ if False or""")
@pytest.mark.parametrize("row", [[0.5, 0.6, 0.0], [1.5, -0.5, 0.0], [math.nan, 1.0, 0.0]])
def test_class_probabilities_of_a_cluster_from_elsewhere_are_checked(row):
    labels = Labels(3, (2,), clusters=4)
    labels.check("from elsewhere")
    labels.named[2] = f64(row)
    with pytest.raises(InputError, match="from elsewhere: each cluster's class probabilities"):
        labels.check("from elsewhere")


@catches("""models/mixture.py: the loss of a chain with missing labels is a sum over the dimensions
- weighted)) / math.prod(x.shape[1:])
+ weighted))""")
@catches("""chain.py: the loss of a chain is a sum over the dimensions
- generator).values()) / math.prod(x.shape[1:])
+ generator).values())""")
def test_a_loss_is_minus_the_bound_per_dimension_with_and_without_classes():
    vae, x = VAE(lambda x, k: (x + k[:, None], x * 0), lambda z, k: z, 2).double(), torch.cat([X, -X], 1)
    bound = sum(vae.draw_terms(x, K, seeded(0)).values())
    assert_close(vae.loss(x, seeded(0), cond=K), -bound / 2, rtol=1e-12, atol=0)
    assert_close(Mixture(vae, 3).loss(x, seeded(0), cond=K), -bound / 2, rtol=1e-12, atol=0)


def test_all_labels_known_give_the_frequencies():
    labels = Labels(3, (1,))
    labels.observe(torch.tensor([0, 0, 1, 2]))
    assert_close(labels.share, f64([0.5, 0.25, 0.25]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Labels(1, (2,)), "at least two classes"),
        (lambda: Labels(3, (2,), dropout=1.0), "label dropout"),
        (lambda: Labels(3, (2,)).observe(torch.tensor([0, UNLABELED])), "1 of 2 examples are labeled"),
        (lambda: Labels(3, (2,), clusters=2).observe(torch.tensor([UNLABELED])), "0 of 1 examples are labeled"),
    ],
)
def test_labels_that_make_no_sense_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@catches("""models/clusters.py: examples of assigned classes may be unlabeled
- return self.assign is None
+ return True""")
def test_an_unlabeled_example_is_refused_where_a_class_must_be_known():
    chain = Mixture(VAE(lambda x, k: (x, x * 0), lambda z, k: z, 1).double(), Classes(SHARE))
    chain.validate(X, torch.full((9,), UNLABELED))
    with pytest.raises(InputError, match=r"class indices lie in 0\.\.2"):
        chain.terms(X, torch.full((9,), UNLABELED))
    with pytest.raises(InputError, match=r"class indices lie in 0\.\.2"):
        Mixture(chain.chain, named()).validate(X, torch.full((9,), UNLABELED))
    with pytest.raises(InputError, match=r"class indices lie in 0\.\.2"):
        Mixture(chain.chain, Classes(SHARE, lambda x: K)).validate(X, torch.full((9,), UNLABELED))


@catches("""models/labels.py: the shares of the classes are those of the labeled examples
- where_unlabeled(k, self.named[near]).mean(0)
+ where_unlabeled(k, self.named[near])[labeled].mean(0)""")
def test_shares_are_those_of_all_examples_and_not_of_the_labeled_ones():
    features = torch.cat([torch.linspace(-9, -8, 100, dtype=F64), torch.linspace(8, 9, 50, dtype=F64)])[:, None]
    k = torch.full((150,), UNLABELED)
    k[:20], k[100:120] = 0, 1  # as many labels in the larger cluster as in the smaller one
    labels = Labels(2, (1,), clusters=2)
    labels.observe(k, features)
    found = labels.probs_of(features)[k == UNLABELED].sum(0)
    assert_close(labels.share, (found + 20) / 150)
    assert labels.share[0] > 0.51


@catches("""models/clusters.py: the last pixels of an image are left out of its features
- F.avg_pool2d(x.double(), factors, ceil_mode=True)
+ F.avg_pool2d(x.double(), factors)""")
def test_features_of_an_image_cover_all_of_it():
    x = torch.zeros(1, 1, 33, 35)
    x[..., -1, -1] = 6.0
    assert coarse(x).shape == (1, 11 * 12)
    assert coarse(x)[0, -1].item() == 1.0  # the last 3 x 2 pixels
