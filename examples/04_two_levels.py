# %% [markdown]
# # A two-level VAE in plain PyTorch, and its loss in nats
#
# The study notes give a two-level VAE of digits: 784 pixels, 100 hidden units, 20 + 20 latents. Their code stops with
# an error. Here is such a model, written anew, with the loss of the notes: L1 + L2 + L3, summed over the dimensions.

# %%
import math

import torch
from torch import nn

import kakusan as kk
from kakusan.objectives.notes_third_term import notes_terms_on


def layers(inputs, outputs, last=None):
    """Two linear layers with a ReLU between them."""
    return nn.Sequential(nn.Linear(inputs, 100), nn.ReLU(), nn.Linear(100, outputs), last or nn.Identity())


class TwoLevels(nn.Module):
    def __init__(self, pixels=784, latents=20):
        super().__init__()
        self.up1, self.up2 = layers(pixels, 2 * latents), layers(latents, 2 * latents)  # mean and log-variance
        self.down1, self.down2 = layers(latents, pixels, nn.Sigmoid()), layers(latents, latents)

    def path(self, x):
        """z_1 ~ q(z_1 | x) and z_2 ~ q(z_2 | z_1), with the two means and log-variances."""
        mean1, log_var1 = self.up1(x).chunk(2, dim=1)
        z1 = mean1 + (log_var1 / 2).exp() * torch.randn_like(mean1)
        mean2, log_var2 = self.up2(z1).chunk(2, dim=1)
        z2 = mean2 + (log_var2 / 2).exp() * torch.randn_like(mean2)
        return (z1, mean1, log_var1), (z2, mean2, log_var2)

    def losses_on(self, x, first, second):
        """L1, L2 and L3 of each example, each of shape (b,)."""
        (z1, mean1, log_var1), (z2, mean2, log_var2) = first, second
        L1 = (x - self.down1(z1)).square().sum(1)  # reconstruction, J1
        L2 = (mean2.square() + log_var2.exp() - log_var2 - 1).sum(1)  # top level, J2
        L3 = ((mean1 - self.down2(z2)).square() + log_var1.exp() - log_var1 - 1).sum(1)  # between the levels, J3
        return L1, L2, L3


# %% [markdown]
# Its value for 1,000 digits on fresh weights. The loss lacks a factor and a constant: the notes' bound is -(loss + D log 2 pi) / 2 nats.

# %%
torch.manual_seed(0)
plain = TwoLevels().double()
x = kk.data.mnist().train[:1000].flatten(1).double() / 255
with torch.no_grad():
    first, second = plain.path(x)
    L1, L2, L3 = plain.losses_on(x, first, second)
loss = L1 + L2 + L3
nats = -(loss + 784 * math.log(2 * math.pi)) / 2
print(f"loss {loss.mean():.3f} = {nats.mean():.3f} nats")

# %% [markdown]
# The library's model on the same weights and the same path. `notes_terms_on` has the notes' third term, and `terms_on`
# the right one: z_2 was drawn from z_1, so the third term is not a KL divergence.


# %%
def halves(network):
    return lambda z: tuple(network(z).chunk(2, dim=1))


ours = kk.HierarchicalVAE([halves(plain.up1), halves(plain.up2)], [plain.down1, plain.down2], [20, 20]).double()
path = [x, first[0], second[0]]
with torch.no_grad():
    notes = notes_terms_on(ours, path)
    exact = ours.terms_on(path)
for name, term in exact.items():
    print(f"{name:15s} exact {term.mean():9.3f} nats, notes' form {notes[name].mean():9.3f} nats")
print(f"{'sum':15s} exact {sum(exact.values()).mean():9.3f} nats, notes' form {sum(notes.values()).mean():9.3f} nats")
assert torch.allclose(sum(notes.values()), nats, rtol=0, atol=1e-9)
assert torch.allclose(notes["reconstruction"], -(L1 + 784 * math.log(2 * math.pi)) / 2, rtol=0, atol=1e-9)  # J1
assert torch.allclose(notes["level 2"], -L2 / 2, rtol=0, atol=1e-9)  # J2
assert torch.allclose(notes["level 1"], -L3 / 2, rtol=0, atol=1e-9)  # J3

# %% [markdown]
# A Gaussian of variance 1 on pixels in [0, 1] has a floor: even a perfect reconstruction costs D/2 log 2 pi nats.

# %%
floor = kk.bits_per_dim(-784 / 2 * math.log(2 * math.pi), 784) + math.log2(255)  # gray levels are 1/255 apart
print(f"no model of this form is below {floor:.3f} bits/dim")
assert abs(floor - 9.320) < 5e-4
