"""Which code realises each statement of the theory, and which tests hold it: a table, and nothing that computes.

S and M are statements, E errata, B statements of ours beyond the notes, O oracles (exact values made by code that shares nothing with the library; those
that the tests need are in tests/oracles). `tools/evidence.py` writes docs/evidence.md from here; `conftest.py` fails a
full run in which a named test did not pass; `test_evidence.py` sees that every name means something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

REQUIRED = (
    *(f"S{number}" for number in range(1, 69)),
    *(f"M{number}" for number in range(1, 16)),
    *("E5", "E12", "E14", "E22", "E23c", "E25", "E29"),
    *("B1", "B2"),
)


@dataclass(frozen=True)
class Row:
    """One statement. Tests are file::name, without parameters: all of a test's parameters must pass."""

    id: str
    statement: str
    code: tuple[str, ...]  # dotted names that can be imported
    tests: tuple[str, ...]
    oracles: tuple[int, ...] = ()


@dataclass(frozen=True)
class Group:
    """A section of the theory."""

    title: str
    rows: tuple[Row, ...]


ORACLES = {
    1: "KL of two Gaussians, by quadrature at 50 digits (gaussians)",
    2: "the constant (D/2) ln 2π (gaussians)",
    3: "the notes' two-level loss and its gradients on given vectors (hvae)",
    4: "linear two-level VAEs, where everything is linear algebra (hvae)",
    5: "what training converges to under either third term (hvae)",
    6: "the linear VAE, which is probabilistic PCA (linear_vae)",
    7: "schedules at 30 digits (schedules)",
    8: "the forward law and its covariances (diffusion_linear_T5_D2)",
    9: "two merged steps (schedules)",
    10: "networks that do nothing (parametrisations)",
    11: "one step in five words (parametrisations)",
    12: "a linear-Gaussian diffusion, exact ELBO and ln p(x) (diffusion_linear_T5_D2)",
    13: "means and variances of the three estimators (diffusion_linear_T5_D2)",
    14: "the gradient of the bound (diffusion_linear_T5_D2)",
    15: "what faulty estimators converge to (diffusion_linear_T5_D2)",
    16: "averages over the data, and what training can reach (diffusion_linear_T5_D2)",
    17: "one-dimensional Gaussian data, T up to 1000 (diffusion_gaussian_1d)",
    18: "a mixture's exact denoiser and score (gaussian_mixture)",
    19: "the best bound and the floor of the simple loss on a mixture (gaussian_mixture)",
    20: "information is half the integral of the error over the SNR (gaussian_mixture)",
    21: "the prior term (gaussians)",
    22: "probabilities of 256 levels; bits per dimension (gaussians)",
    23: "laws of generated samples (hvae, diffusion_linear_T5_D2, diffusion_gaussian_1d)",
    24: "time embeddings: sinusoids, one-hot labels (in the tests)",
    25: "parameter counts of the notes' networks (in the tests)",
    26: "Dirichlet-multinomial evidence as exact fractions (dirichlet_multinomial)",
    27: "its bound, gradient and natural step (dirichlet_multinomial)",
    28: "where the KL of two Dirichlets is convex and where not (dirichlet_multinomial)",
    29: "importance weights average to the evidence (linear_vae, diffusion_linear_T5_D2)",
    30: "float32 and log(σ ** 2) (gaussians)",
}


def all_rows() -> list[Row]:
    """The whole table, in order."""
    return [row for group in GROUPS for row in group.rows]


def named_tests() -> dict[str, list[str]]:
    """Every test of the table, with the statements that need it."""
    named: dict[str, list[str]] = {}
    for row in all_rows():
        for test in row.tests:
            named.setdefault(test, []).append(row.id)
    return named


def unproven(named: Mapping[str, list[str]], outcomes: Mapping[str, Iterable[str]]) -> list[str]:
    """A line for each named test that did not pass; outcomes are what was seen of it over its parameters and phases."""
    lines = []
    for test, ids in named.items():
        bad = sorted({"did not run"} if not outcomes.get(test) else set(outcomes[test]) - {"passed"})
        if bad:
            lines.append(f"{', '.join(ids)}: {test} {' and '.join(bad)}")
    return lines


VAE_ROWS = (
    Row(
        "S1",
        "three families, each a case of one frame; each trains and generates",
        (
            "kakusan.models.vae.VAE",
            "kakusan.models.hierarchical_vae.HierarchicalVAE",
            "kakusan.models.diffusion.Diffusion",
            "kakusan.recipes.find",
        ),
        (
            "test_statements.py::test_each_family_is_trained_in_a_second_and_generates_data_of_its_shape",
            "test_diffusion.py::test_a_short_training_lowers_the_loss",
            "test_cli.py::test_a_run_holds_what_the_readme_promises",
        ),
    ),
    Row(
        "S2",
        "trained on digits, samples are nearer to digits than noise and shuffled pixels are",
        ("kakusan.models.vae.VAE", "kakusan.measure.classifier.classifier"),
        (
            "test_statements.py::test_a_little_training_on_digits_raises_the_held_out_bound",
            "test_statements.py::test_samples_are_nearer_to_digits_than_noise_and_shuffled_pixels_are",
        ),
    ),
    Row(
        "S3",
        "p(z) = N(0, I), no parameters",
        ("kakusan.models.vae.VAE.prior", "kakusan.models.vae.standard_normal"),
        ("test_vae.py::test_the_prior_is_standard_and_has_no_parameters",),
        (6,),
    ),
    Row(
        "S4",
        "p(x | z) = N(net(z), I), covariance exactly the identity",
        ("kakusan.models.vae.VAE.decode", "kakusan.likelihoods.gaussian"),
        (
            "test_distributions.py::test_each_likelihood_reads_a_decoders_output_as_its_law",
            "test_distributions.py::test_the_constant_of_a_log_density_is_kept",
            "test_vae.py::test_its_terms_are_reconstruction_and_minus_kl",
        ),
        (2, 6),
    ),
    Row(
        "S5",
        "q(z | x) = N(mu, diag sigma²), mu and sigma > 0 by one network",
        ("kakusan.models.vae.VAE.encode", "kakusan.nets.mlp.GaussianMLP"),
        (
            "test_distributions.py::test_normal_draws_have_the_mean_and_the_covariance_of_the_law",
            "test_statements.py::test_an_encoder_is_linear_relu_and_two_linear_heads_and_a_decoder_linear_relu_linear",
        ),
        (6,),
    ),
    Row(
        "S6",
        "generation: z ~ N(0, I), then the mean or a draw; covariance W Wᵀ or W Wᵀ + I",
        ("kakusan.bound.ancestral_sample",),
        ("test_vae.py::test_samples_have_covariance_w_wt_and_noise_only_where_it_is_drawn",),
        (6, 23),
    ),
    Row(
        "S7",
        "ELBO = E_q[ln p(x, z) - ln q(z | x)] = E_q ln p(x | z) - KL(q(z | x) || p(z))",
        ("kakusan.bound.elbo", "kakusan.models.vae.VAE.terms"),
        (
            "test_vae.py::test_the_bound_is_the_exact_one",
            "test_vae.py::test_its_terms_are_reconstruction_and_minus_kl",
            "test_vae.py::test_gradients_flow_through_the_draw",
            "test_vae.py::test_the_optimum_of_training_has_the_known_value_and_no_gradient",
        ),
        (6,),
    ),
    Row(
        "S8",
        "ELBO <= ln p(x), equal iff q is the posterior",
        ("kakusan.bound.elbo", "kakusan.chain.log_weight"),
        (
            "test_vae.py::test_the_best_diagonal_encoder_leaves_the_known_gap",
            "test_vae.py::test_at_the_exact_posterior_every_draw_is_the_evidence",
            "test_vae.py::test_without_the_exact_posterior_draws_differ",
            "test_chain.py::test_an_exact_model_makes_every_path_tight",
        ),
        (4, 6),
    ),
)

STACKING = (
    Row(
        "S9",
        "Markov both ways: p = p(z_L) Π p(z_l | z_{l+1}) p(x | z_1), q = q(z_1 | x) Π q(z_l | z_{l-1})",
        ("kakusan.chain.LatentChain", "kakusan.chain.log_weight", "kakusan.models.hierarchical_vae.HierarchicalVAE"),
        (
            "test_statements.py::test_a_log_weight_is_the_ratio_of_two_joint_gaussians",
            "test_hierarchy.py::test_the_exact_posterior_makes_every_path_tight_at_any_depth",
        ),
        (4,),
    ),
    Row(
        "S10",
        "L levels need 2 L networks",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE",),
        (
            "test_hierarchy.py::test_levels_may_differ_in_size_and_every_network_gets_a_gradient",
            "test_nets.py::test_the_notes_two_level_recipe_has_174084_parameters_and_four_networks",
        ),
        (25,),
    ),
    Row(
        "S11",
        "stacking may express more with less: one and two levels side by side, reported and not judged",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE",),
        ("test_statements.py::test_a_little_training_on_digits_raises_the_held_out_bound",),
    ),
)

TWO_LEVELS = (
    Row(
        "S12",
        "p(x, z_1, z_2) = p(z_2) p(z_1 | z_2) p(x | z_1), p(z_2) = N(0, I)",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.prior", "kakusan.chain.log_weight"),
        ("test_statements.py::test_a_log_weight_is_the_ratio_of_two_joint_gaussians",),
        (4,),
    ),
    Row(
        "S13",
        "p(z_1 | z_2) = N(net(z_2), I), p(x | z_1) = N(net(z_1), I)",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.decode",),
        (
            "test_statements.py::test_a_log_weight_is_the_ratio_of_two_joint_gaussians",
            "test_hierarchy.py::test_generated_data_have_the_law_of_the_model",
        ),
        (4,),
    ),
    Row(
        "S14",
        "q(z_1, z_2 | x) = q(z_1 | x) q(z_2 | z_1), diagonal Gaussians",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.encode",),
        ("test_statements.py::test_a_log_weight_is_the_ratio_of_two_joint_gaussians",),
        (4,),
    ),
    Row(
        "S15",
        "ELBO = E_q[ln p(x, z_1, z_2) - ln q(z_1, z_2 | x)] = J1 + J2 + J3",
        (
            "kakusan.models.hierarchical_vae.HierarchicalVAE.terms",
            "kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",
        ),
        (
            "test_hierarchy.py::test_the_exact_bound_and_its_terms_are_the_known_ones",
            "test_hierarchy.py::test_at_the_exact_posterior_every_draw_is_the_evidence",
        ),
        (4,),
    ),
    Row(
        "S16",
        "J1 = E ln p(x | z_1)",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        ("test_hierarchy.py::test_the_exact_bound_and_its_terms_are_the_known_ones",),
        (4,),
    ),
    Row(
        "S17",
        "J2 = -E KL(q(z_2 | z_1) || p(z_2))",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        ("test_hierarchy.py::test_the_exact_bound_and_its_terms_are_the_known_ones",),
        (1, 4),
    ),
    Row(
        "S18",
        "J3 = E_{q(z_1 | x) q(z_2 | z_1)}[ln p(z_1 | z_2) - ln q(z_1 | x)], with the drawn z_1",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        (
            "test_hierarchy.py::test_the_exact_bound_and_its_terms_are_the_known_ones",
            "test_hierarchy.py::test_the_trained_encoder_is_at_rest_at_the_known_optimum",
        ),
        (4, 5),
    ),
    Row(
        "S19",
        "the notes' form: ELBO - Σ Cov(z_1h, ẑ_1h) = ELBO(independent family) - I(z_1; z_2) <= ln p(x)",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.bound_on", "kakusan.models.hierarchical_vae.ThirdTerm"),
        (
            "test_hierarchy.py::test_the_notes_form_and_its_terms_are_the_known_ones",
            "test_hierarchy.py::test_the_two_forms_differ_by_the_covariance_of_z1_and_its_reconstruction",
            "test_hierarchy.py::test_the_trained_encoder_is_at_rest_at_the_known_optimum",
        ),
        (4, 5),
    ),
    Row(
        "S20",
        "one path by reparameterisation; gradients reach all four networks",
        ("kakusan.bound.sample_path", "kakusan.models.hierarchical_vae.HierarchicalVAE.terms"),
        (
            "test_hierarchy.py::test_one_draw_estimates_average_to_the_exact_values",
            "test_hierarchy.py::test_levels_may_differ_in_size_and_every_network_gets_a_gradient",
            "test_vae.py::test_gradients_flow_through_the_draw",
        ),
        (4,),
    ),
    Row(
        "S21",
        "ln p(x | z_1) = -|x - x̂|² / 2 - (D/2) ln 2π",
        ("kakusan.distributions.Normal.log_prob",),
        (
            "test_hierarchy.py::test_the_notes_form_on_given_vectors_is_the_notes_loss",
            "test_distributions.py::test_the_constant_of_a_log_density_is_kept",
        ),
        (2, 3),
    ),
    Row(
        "S22",
        "KL(q(z_2 | z_1) || N(0, I)) = -½ Σ (1 + ln σ² - μ² - σ²)",
        ("kakusan.distributions.normal_kl",),
        (
            "test_distributions.py::test_the_kl_of_two_normals_is_the_oracles",
            "test_distributions.py::test_the_kl_of_a_vector_is_a_sum_over_its_entries",
        ),
        (1, 3),
    ),
    Row(
        "S23",
        "KL(N(μ, σ²) || N(ẑ, I)) = -½ Σ (1 + ln σ² - (μ - ẑ)² - σ²)",
        ("kakusan.distributions.normal_kl",),
        (
            "test_distributions.py::test_the_kl_of_two_normals_is_the_oracles",
            "test_distributions.py::test_the_kl_of_a_vector_is_a_sum_over_its_entries",
        ),
        (1, 3),
    ),
    Row(
        "S24",
        "an unbiased third term: the entropy of q(z_1 | x) plus ln p(z_1 | z_2) at the drawn z_1",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        (
            "test_hierarchy.py::test_the_exact_form_on_given_vectors_uses_the_drawn_latent",
            "test_hierarchy.py::test_one_draw_estimates_average_to_the_exact_values",
        ),
        (3, 4),
    ),
    Row(
        "S25",
        "the notes' loss L1 + L2 + L3 = -2 ELBO (notes' form) - D ln 2π",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        (
            "test_hierarchy.py::test_the_notes_form_on_given_vectors_is_the_notes_loss",
            "test_hierarchy.py::test_the_gradients_of_the_notes_form_are_the_given_ones",
            "test_vae.py::test_the_notes_loss_is_minus_twice_the_bound_without_its_constant",
        ),
        (3,),
    ),
    Row(
        "S26",
        "784 inputs, 100 hidden, 20 latent, 30 epochs, 1e-3, batch 32; 174 084 and 163 824 parameters",
        ("kakusan.recipes.mnist_hvae.RECIPE",),
        (
            "test_recipes.py::test_the_notes_recipe_has_the_notes_numbers",
            "test_nets.py::test_the_notes_networks_have_their_numbers_of_parameters",
            "test_nets.py::test_the_notes_two_level_recipe_has_174084_parameters_and_four_networks",
            "test_statements.py::test_one_level_of_the_notes_networks_has_163824_parameters",
        ),
        (25,),
    ),
    Row(
        "S27",
        "encoder: linear, ReLU, two heads, σ = exp(log σ² / 2); decoder: linear, ReLU, linear, sigmoid on pixels only",
        ("kakusan.nets.mlp.GaussianMLP", "kakusan.nets.mlp.MLP", "kakusan.run.build.build"),
        (
            "test_statements.py::test_an_encoder_is_linear_relu_and_two_linear_heads_and_a_decoder_linear_relu_linear",
            "test_statements.py::test_pixels_pass_a_sigmoid_and_latents_do_not",
        ),
        (25,),
    ),
    Row(
        "S28",
        "a training loop over batches of digits scaled to [0, 1], with pictures",
        ("kakusan.train.loop.Trainer", "kakusan.train.batches.Batches", "kakusan.data.scale.UNIT"),
        (
            "test_training.py::test_an_epoch_shows_every_example_once",
            "test_data.py::test_scaling_goes_there_and_back_for_every_level",
            "test_data.py::test_the_embedded_digits_are_the_distributed_ones",
            "test_cli.py::test_a_run_holds_what_the_readme_promises",
        ),
    ),
    Row(
        "S29",
        "it runs: the loss falls under either third term, and an evaluation names both",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms", "kakusan.train.loop.Trainer"),
        (
            "test_statements.py::test_each_family_is_trained_in_a_second_and_generates_data_of_its_shape",
            "test_cli.py::test_evaluate_names_both_forms_of_the_third_term",
        ),
    ),
    Row(
        "S30",
        "KL terms take log σ², not ln(σ²): finite from -200 to 88 in float32",
        ("kakusan.distributions.normal_kl", "kakusan.likelihoods.limit_log_var"),
        (
            "test_distributions.py::test_log_variances_from_minus_200_to_88_give_finite_kl_and_gradients_in_float32",
            "test_distributions.py::test_limit_log_var_keeps_values_and_gradients_finite_in_float32",
        ),
        (30,),
    ),
    Row(
        "S31",
        "generation down two levels; covariance W1 (W2 W2ᵀ + I) W1ᵀ, plus I if noise is drawn",
        ("kakusan.bound.ancestral_sample",),
        (
            "test_hierarchy.py::test_generated_data_have_the_law_of_the_model",
            "test_hierarchy.py::test_samples_follow_that_law",
        ),
        (4, 23),
    ),
)

TO_DIFFUSION = (
    Row(
        "S32",
        "change 1: every latent is as large as the data",
        ("kakusan.models.diffusion.Diffusion",),
        (
            "test_diffusion.py::test_the_encoder_has_no_parameters_and_latents_have_the_shape_of_the_data",
            "test_diffusion.py::test_images_keep_their_shape_through_every_function",
        ),
    ),
    Row(
        "S33",
        "change 2: the encoder is fixed noise without parameters",
        ("kakusan.models.diffusion.Diffusion.encode",),
        (
            "test_diffusion.py::test_the_encoder_has_no_parameters_and_latents_have_the_shape_of_the_data",
            "test_statements.py::test_each_family_is_trained_in_a_second_and_generates_data_of_its_shape",
        ),
    ),
    Row(
        "S34",
        "only denoising is learned; x observed, z_1, ..., z_T latent",
        ("kakusan.models.diffusion.Diffusion",),
        (
            "test_diffusion.py::test_the_encoder_has_no_parameters_and_latents_have_the_shape_of_the_data",
            "test_diffusion.py::test_a_short_training_lowers_the_loss",
        ),
    ),
)

TWO_PROCESSES = (
    Row(
        "S35",
        "q(z_t | z_{t-1}) = N(√(1 - β_t) z_{t-1}, β_t I), 1 <= t <= T, 0 < β_t < 1",
        ("kakusan.models.diffusion.Diffusion.encode", "kakusan.schedule.Schedule.from_betas"),
        (
            "test_diffusion.py::test_the_closed_form_is_the_law_of_the_steps",
            "test_diffusion.py::test_a_path_has_the_known_covariances_between_its_steps",
            "test_schedule.py::test_a_beta_outside_the_open_unit_interval_is_refused_by_its_step",
        ),
        (8,),
    ),
    Row(
        "S36",
        "for β = 0.01 a step is 0.99498... z + 0.1 eps",
        ("kakusan.schedule.Schedule",),
        ("test_schedule.py::test_one_step_of_a_hundredth_keeps_0_995_of_the_amplitude",),
        (7,),
    ),
    Row(
        "S37",
        "q(z_T) is nearly N(0, I) if ᾱ_T is nearly 0; a schedule that fails is reported",
        ("kakusan.schedule.Schedule.from_betas", "kakusan.models.diffusion.Diffusion.prior_kl"),
        (
            "test_schedule.py::test_a_schedule_that_leaves_half_of_the_data_is_reported",
            "test_schedule.py::test_the_published_betas_are_reported_at_100_steps_and_not_at_1000",
            "test_diffusion.py::test_the_prior_term_is_the_exact_one",
        ),
        (7, 17, 21),
    ),
    Row(
        "S38",
        "p(z_{t-1} | z_t) = N(net(z_t, t), I), one network for all t",
        ("kakusan.models.diffusion.Diffusion.reverse", "kakusan.models.diffusion.Diffusion.decode"),
        (
            "test_diffusion.py::test_reverse_variances_are_the_tables",
            "test_diffusion.py::test_images_keep_their_shape_through_every_function",
            "test_statements.py::test_one_network_serves_all_steps_and_only_a_table_grows_with_them",
        ),
    ),
    Row(
        "S39",
        "t is an input of the network",
        ("kakusan.nets.unet.UNet", "kakusan.nets.time.SinusoidalTime"),
        (
            "test_networks.py::test_a_network_hears_the_time",
            "test_statements.py::test_a_network_that_is_not_told_the_time_stays_below",
        ),
        (24,),
    ),
    Row(
        "S40",
        "a one-hot label works as sinusoids do; both can be chosen",
        ("kakusan.nets.time.TableTime", "kakusan.nets.time.SinusoidalTime"),
        (
            "test_statements.py::test_told_the_time_either_way_a_network_reaches_the_best_bound",
            "test_nets.py::test_a_table_is_a_one_hot_label_through_a_linear_layer",
            "test_networks.py::test_a_network_takes_any_height_and_width",
        ),
        (16, 24),
    ),
    Row(
        "S41",
        "sampling draws from that Gaussian; with identity covariance a reading aid only",
        ("kakusan.solvers.ancestral",),
        (
            "test_samplers.py::test_ancestral_draws_follow_that_law_without_the_last_noise",
            "test_samplers.py::test_unit_variance_generates_a_law_that_is_far_too_wide",
            "test_mixture.py::test_samples_of_the_exact_denoiser_are_nearly_the_data_and_with_unit_variance_far_off",
        ),
        (17, 23),
    ),
)

T_SAMPLES = (
    Row(
        "S42",
        "the target is the ELBO; it lies below the exact ln p(x)",
        ("kakusan.bound.elbo",),
        ("test_diffusion.py::test_the_bound_lies_below_the_exact_evidence",),
        (12,),
    ),
    Row(
        "S43",
        "three goals: the same ELBO from T, from two and from one drawn latent",
        (
            "kakusan.models.diffusion.Diffusion.elbo_path",
            "kakusan.models.diffusion.Diffusion.elbo_pair",
            "kakusan.models.diffusion.Diffusion.elbo_single",
        ),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_cli.py::test_evaluate_prints_one_estimate_from_each_of_path_pair_and_single",
        ),
        (13,),
    ),
    Row(
        "S44",
        "ELBO(x) = E_{q(z_1..z_T | x)}[ln p(x, z_1..z_T) - ln q(z_1..z_T | x)]",
        ("kakusan.chain.log_weight", "kakusan.bound.elbo"),
        (
            "test_diffusion.py::test_the_log_weight_of_a_path_has_the_same_mean",
            "test_chain.py::test_a_diffusion_model_of_standard_normal_data_is_tight_on_every_path",
        ),
        (12,),
    ),
    Row(
        "S45",
        "Jensen: weights average to p(x), their logs to less",
        ("kakusan.bound.importance_bound",),
        (
            "test_chain.py::test_weights_average_to_the_evidence_and_their_logs_to_less",
            "test_chain.py::test_the_importance_bound_rises_with_the_number_of_draws",
            "test_chain.py::test_importance_weights_of_a_diffusion_model_do_not_pass_its_evidence",
        ),
        (6, 12, 29),
    ),
    Row(
        "S46",
        "p(x, z) = p(z_T) Π p(z_{t-1} | z_t), p(z_T) = N(0, I); q(z | x) = Π q(z_t | z_{t-1})",
        ("kakusan.chain.log_weight", "kakusan.models.diffusion.Diffusion.prior"),
        (
            "test_statements.py::test_a_log_weight_is_the_ratio_of_two_joint_gaussians",
            "test_diffusion.py::test_the_log_weight_of_a_path_has_the_same_mean",
        ),
        (4, 12),
    ),
    Row(
        "S47",
        "ELBO = J + C(x), J = Σ E ln p(z_{t-1} | z_t), no parameter in C",
        ("kakusan.models.diffusion.Diffusion.bound_constant",),
        ("test_diffusion.py::test_the_bound_is_the_exact_one_by_each_of_its_pure_functions",),
        (12,),
    ),
    Row(
        "S48",
        "one path: J = Σ l_t in mean",
        ("kakusan.models.diffusion.Diffusion.elbo_path", "kakusan.models.diffusion.Diffusion.step_log_prob"),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_diffusion.py::test_gradients_of_every_estimator_average_to_the_exact_one",
        ),
        (13, 14),
    ),
    Row(
        "S49",
        "with unit covariance J = -½ Σ |z_{t-1} - ẑ_{t-1}|² - (T D/2) ln 2π",
        ("kakusan.models.diffusion.Diffusion.step_log_prob", "kakusan.models.diffusion.Diffusion.step_cross_entropy"),
        ("test_diffusion.py::test_a_network_that_does_nothing_has_the_known_bound",),
        (10, 13),
    ),
    Row(
        "S50",
        "the norm is the Euclidean one",
        ("kakusan.models.diffusion.Diffusion.step_log_prob", "kakusan.distributions.sum_event"),
        ("test_statements.py::test_the_error_of_a_step_is_the_square_of_the_euclidean_norm",),
    ),
    Row(
        "S51",
        "a path costs T draws and T network calls, the others one call",
        ("kakusan.models.diffusion.Diffusion.elbo_path",),
        ("test_diffusion.py::test_an_estimate_costs_the_promised_number_of_network_calls",),
    ),
)

CLOSED_FORM = (
    Row(
        "S52",
        "a sum of independent Gaussians: means add, variances add",
        ("kakusan.schedule.Schedule.noise_var", "kakusan.models.diffusion.Diffusion.marginal"),
        (
            "test_schedule.py::test_the_noise_of_a_step_adds_to_the_noise_before_it",
            "test_diffusion.py::test_the_closed_form_is_the_law_of_the_steps",
        ),
        (9,),
    ),
    Row(
        "S53",
        "two steps merge: z_t = √(α_t α_{t-1}) z_{t-2} + √(1 - α_t α_{t-1}) eps",
        ("kakusan.schedule.Schedule.respaced", "kakusan.schedule.Schedule.noise_var"),
        (
            "test_schedule.py::test_two_steps_merge_into_one_of_variance_0_28_and_not_0_08",
            "test_schedule.py::test_a_respaced_chain_has_the_same_marginals",
        ),
        (9,),
    ),
    Row(
        "S54",
        "q(z_t | x) = N(√ᾱ_t x, (1 - ᾱ_t) I)",
        ("kakusan.models.diffusion.Diffusion.marginal", "kakusan.schedule.Schedule.alpha_bar"),
        (
            "test_schedule.py::test_every_table_is_the_exact_one",
            "test_diffusion.py::test_the_closed_form_is_the_law_of_the_steps",
            "test_diffusion.py::test_a_path_has_the_known_covariances_between_its_steps",
        ),
        (7, 8),
    ),
    Row(
        "S55",
        "so any z_t comes in one draw, and no path is needed",
        ("kakusan.models.diffusion.Diffusion.marginal", "kakusan.models.diffusion.Diffusion.elbo_single"),
        (
            "test_diffusion.py::test_an_estimate_costs_the_promised_number_of_network_calls",
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
        ),
        (8, 13),
    ),
    Row(
        "S56",
        "the ELBO from two drawn latents",
        ("kakusan.models.diffusion.Diffusion.elbo_pair",),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_diffusion.py::test_gradients_of_every_estimator_average_to_the_exact_one",
            "test_diffusion.py::test_a_faulty_estimator_is_many_standard_errors_off",
        ),
        (13, 14, 15),
    ),
    Row(
        "S57",
        "the ELBO from one drawn latent",
        ("kakusan.models.diffusion.Diffusion.elbo_single",),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_diffusion.py::test_gradients_of_every_estimator_average_to_the_exact_one",
        ),
        (13, 14),
    ),
    Row(
        "S58",
        "training, generation, and a likelihood in nats and bits/dim",
        (
            "kakusan.models.diffusion.Diffusion.loss",
            "kakusan.solvers.ancestral",
            "kakusan.likelihood.diffusion.of_diffusion",
        ),
        (
            "test_diffusion.py::test_a_short_training_lowers_the_loss",
            "test_samplers.py::test_ancestral_draws_follow_that_law_without_the_last_noise",
            "test_likelihood.py::test_one_call_an_example_is_unbiased_for_the_exact_bound_of_these_very_examples",
            "test_likelihood.py::test_each_term_has_the_exact_mean",
            "test_likelihood.py::test_the_95_percent_interval_covers_the_exact_bound",
            "test_cli.py::test_evaluate_json_is_one_object_alone_on_stdout",
            "test_units.py::test_rates_of_discrete_and_continuous_data_are_the_oracles",
        ),
        (17, 19, 22, 23),
    ),
)

NOTES_B = (
    Row(
        "S59",
        "a DDPM: noised data are the latents, generation is the reverse process",
        ("kakusan.models.diffusion.Diffusion", "kakusan.solvers.ancestral"),
        (
            "test_diffusion.py::test_the_closed_form_is_the_law_of_the_steps",
            "test_samplers.py::test_at_full_length_ancestral_is_the_generative_chain_itself",
        ),
        (12,),
    ),
    Row(
        "S60",
        "p(x) = ∫ p(x | z) p(z) dz",
        ("kakusan.chain.LatentChain", "kakusan.models.dirichlet_multinomial.DirichletMultinomial.log_evidence"),
        (
            "test_statements.py::test_likelihood_times_prior_integrates_to_the_evidence",
            "test_chain.py::test_weights_average_to_the_evidence_and_their_logs_to_less",
        ),
        (6, 26),
    ),
    Row(
        "S61",
        "KL(q || posterior) = ln p(x) - ELBO: for a fixed model the two have one optimum",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.elbo", "kakusan.bound.elbo"),
        (
            "test_conjugate.py::test_the_bound_is_the_exact_one",
            "test_chain.py::test_the_bound_is_the_evidence_minus_a_kl_for_any_encoder",
        ),
        (4, 6, 12, 27),
    ),
    Row(
        "S62",
        "ln p(x) >= ELBO since KL >= 0, equal iff q is the posterior",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.elbo",),
        (
            "test_conjugate.py::test_the_bound_is_below_the_evidence_away_from_the_posterior",
            "test_conjugate.py::test_every_path_weighs_exactly_the_evidence",
        ),
        (12, 27),
    ),
    Row(
        "S63",
        "Dirichlet prior, multinomial likelihood; α_k > 0, whole counts >= 0, K >= 2",
        (
            "kakusan.models.dirichlet_multinomial.DirichletMultinomial",
            "kakusan.distributions.Dirichlet",
            "kakusan.distributions.Multinomial",
        ),
        (
            "test_distributions.py::test_dirichlet_agrees_with_torch",
            "test_distributions.py::test_multinomial_agrees_with_torch",
            "test_conjugate.py::test_a_concentration_that_is_no_prior_is_refused",
            "test_conjugate.py::test_counts_that_are_not_k_whole_numbers_are_refused",
        ),
        (26,),
    ),
    Row(
        "S64",
        "the posterior is Dir(x + α)",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.posterior",),
        (
            "test_conjugate.py::test_every_path_weighs_exactly_the_evidence",
            "test_chain.py::test_the_bound_of_counts_is_tight_on_every_path",
        ),
        (26,),
    ),
    Row(
        "S65",
        "the evidence in closed form",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.log_evidence",),
        (
            "test_conjugate.py::test_the_evidence_is_the_exact_one",
            "test_conjugate.py::test_rational_evidence_is_met",
            "test_conjugate.py::test_the_evidence_sums_to_one_over_all_counts_of_a_total",
        ),
        (26,),
    ),
    Row(
        "S66",
        "the ELBO of q = Dir(γ), constants included",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.elbo",),
        ("test_conjugate.py::test_the_bound_is_the_exact_one",),
        (27,),
    ),
    Row(
        "S67",
        "its gradient: (x_j + α_j - γ_j) ψ1(γ_j) - ψ1(γ_0) Σ (x_k + α_k - γ_k)",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.elbo_grad",),
        (
            "test_conjugate.py::test_the_gradient_of_the_bound_is_the_exact_one",
            "test_conjugate.py::test_automatic_differentiation_gives_the_same_gradient",
        ),
        (27,),
    ),
    Row(
        "S68",
        "γ = x + α is the only stationary point and the maximum; one natural step lands on it",
        (
            "kakusan.models.dirichlet_multinomial.DirichletMultinomial.natural_step",
            "kakusan.models.dirichlet_fit.ConjugateFit",
        ),
        (
            "test_conjugate.py::test_gradient_ascent_from_anywhere_ends_at_the_posterior",
            "test_conjugate.py::test_one_natural_step_lands_on_the_posterior",
            "test_cli.py::test_gradient_ascent_ends_at_the_exact_posterior",
        ),
        (27, 28),
    ),
)

COMPLETED = (
    Row(
        "M1",
        "ELBO = ln p(x) - KL(q(z_1..z_T | x) || p(z_1..z_T | x))",
        ("kakusan.bound.elbo",),
        (
            "test_chain.py::test_the_bound_is_the_evidence_minus_a_kl_for_any_encoder",
            "test_chain.py::test_an_exact_model_makes_every_path_tight",
        ),
        (12,),
    ),
    Row(
        "M2",
        "C(x) in closed form",
        ("kakusan.models.diffusion.Diffusion.bound_constant",),
        (
            "test_diffusion.py::test_the_bound_is_the_exact_one_by_each_of_its_pure_functions",
            "test_diffusion.py::test_a_network_that_does_nothing_has_the_known_bound",
        ),
        (10, 12),
    ),
    Row(
        "M3",
        "T samples: Σ l_t + C on one path; the sampled log ratio has no variance at the exact reverse",
        ("kakusan.models.diffusion.Diffusion.elbo_path", "kakusan.chain.log_weight"),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_chain.py::test_a_diffusion_model_of_standard_normal_data_is_tight_on_every_path",
        ),
        (12, 13),
    ),
    Row(
        "M4",
        "two samples: T l_t of a pair with Cov(z_{t-1}, z_t | x) = √α_t (1 - ᾱ_{t-1}) I",
        ("kakusan.models.diffusion.Diffusion.elbo_pair",),
        (
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_diffusion.py::test_a_faulty_estimator_is_many_standard_errors_off",
        ),
        (13, 15),
    ),
    Row(
        "M5",
        "one sample: z_{t-1} integrated out under q(z_{t-1} | z_t, x); and the KL form",
        (
            "kakusan.models.diffusion.Diffusion.step_cross_entropy",
            "kakusan.models.diffusion.Diffusion.step_cost",
            "kakusan.models.diffusion.Diffusion.posterior",
        ),
        (
            "test_diffusion.py::test_the_bound_is_the_exact_one_by_each_of_its_pure_functions",
            "test_diffusion.py::test_the_posterior_is_bayes_rule",
            "test_diffusion.py::test_a_cost_is_a_cross_entropy_without_the_entropy_of_the_posterior",
        ),
        (11, 12, 13),
    ),
    Row(
        "M6",
        "all three are unbiased, their variances known; integrating out, centring and choosing steps take variance away",
        (
            "kakusan.models.diffusion.Diffusion.elbo_single",
            "kakusan.models.diffusion.Diffusion.elbo_pair",
            "kakusan.likelihood.diffusion.default_law",
        ),
        (
            "test_likelihood.py::test_the_control_variate_and_the_step_law_pay_in_a_world_that_is_not_gaussian",
            "test_diffusion.py::test_every_estimator_has_the_exact_mean_and_variance",
            "test_diffusion.py::test_integrating_out_a_latent_removes_the_exact_amount_of_variance",
            "test_diffusion.py::test_gradients_of_every_estimator_average_to_the_exact_one",
            "test_diffusion.py::test_the_gradient_of_the_bound_is_the_exact_one",
        ),
        (13, 14),
    ),
    Row(
        "M7",
        "variances of the reverse step: unit, β, β̃ (with a stand-in at t = 1), learned between them",
        ("kakusan.models.diffusion.Variance", "kakusan.models.diffusion.Diffusion.reverse"),
        (
            "test_diffusion.py::test_reverse_variances_are_the_tables",
            "test_diffusion.py::test_costs_of_a_step_are_the_exact_ones_for_every_prediction",
            "test_diffusion.py::test_one_dimensional_gaussian_data_at_any_depth",
            "test_diffusion.py::test_a_learned_variance_runs_from_beta_tilde_to_beta",
            "test_diffusion.py::test_the_bound_beside_the_simple_loss_moves_the_variance_alone",
            "test_mixture.py::test_the_exact_denoiser_has_the_best_bound_of_its_variance",
        ),
        (10, 11, 17, 19),
    ),
    Row(
        "M8",
        "one prediction, five names: x, eps, v, score, mean",
        ("kakusan.models.diffusion.Prediction", "kakusan.models.diffusion.Diffusion.data_estimate"),
        (
            "test_diffusion.py::test_five_predictions_are_one_reverse_step",
            "test_diffusion.py::test_one_denoiser_in_five_words_is_one_bound",
            "test_diffusion.py::test_the_training_target_is_the_true_word",
            "test_mixture.py::test_score_noise_and_velocity_of_a_mixture_are_its_posterior_mean",
        ),
        (11, 18),
    ),
    Row(
        "M9",
        "KL(q(z_T | x) || N(0, I)) = ½ [ᾱ_T (|x|² - D) - D ln(1 - ᾱ_T)]",
        ("kakusan.models.diffusion.Diffusion.prior_kl",),
        (
            "test_diffusion.py::test_the_prior_term_is_the_exact_one",
            "test_diffusion.py::test_the_prior_kl_is_right_in_float32_where_one_minus_alpha_bar_rounds_to_one",
        ),
        (21,),
    ),
    Row(
        "M10",
        "the reconstruction term: a density, or probabilities of 256 levels that sum to 1",
        ("kakusan.distributions.DiscretizedNormal", "kakusan.models.diffusion.Diffusion.decode"),
        (
            "test_distributions.py::test_a_discretised_normal_is_the_oracles_in_both_tails",
            "test_distributions.py::test_the_levels_of_a_discretised_normal_sum_to_one",
            "test_diffusion.py::test_the_discretised_likelihood_concerns_the_first_step_alone",
        ),
        (22,),
    ),
    Row(
        "M11",
        "bits per dimension of a probability, and of a density with its bin width",
        ("kakusan.units.bits_per_dim", "kakusan.units.grid_nats"),
        (
            "test_units.py::test_rates_of_discrete_and_continuous_data_are_the_oracles",
            "test_units.py::test_a_uniform_law_over_256_levels_costs_eight_bits_a_dimension",
        ),
        (22,),
    ),
    Row(
        "M12",
        "a one-hot label is a table of T rows; sinusoids have squared norm d/2 and are shared by all t",
        ("kakusan.nets.time.TableTime", "kakusan.nets.time.sinusoids"),
        (
            "test_nets.py::test_a_table_is_a_one_hot_label_through_a_linear_layer",
            "test_nets.py::test_sinusoids_have_the_published_values_and_norm",
            "test_statements.py::test_one_network_serves_all_steps_and_only_a_table_grows_with_them",
            "test_statements.py::test_told_the_time_either_way_a_network_reaches_the_best_bound",
        ),
        (16, 24),
    ),
    Row(
        "M13",
        "the algorithms: train, generate (no noise at t = 1), report",
        (
            "kakusan.models.diffusion.Diffusion.loss",
            "kakusan.solvers.ancestral",
            "kakusan.likelihood.diffusion.of_diffusion",
        ),
        (
            "test_diffusion.py::test_a_loss_is_minus_the_bound_a_dimension",
            "test_diffusion.py::test_a_network_that_knows_the_truth_has_no_simple_loss",
            "test_samplers.py::test_down_the_chain_the_law_of_the_model_is_generated",
            "test_cli.py::test_evaluate_json_is_one_object_alone_on_stdout",
        ),
        (12, 17, 23),
    ),
    Row(
        "M14",
        "limits: E ELBO <= -H(data); the exact reverse lacks the prior term alone; steps cost ½ ΔSNR mmse",
        ("kakusan.models.diffusion.Diffusion.step_cost", "kakusan.models.diffusion.Diffusion.loss"),
        (
            "test_statements.py::test_the_exact_reverse_lacks_the_entropy_by_the_prior_term_alone",
            "test_diffusion.py::test_averaged_over_the_data_the_bound_is_the_exact_one",
            "test_diffusion.py::test_the_simple_loss_of_the_best_denoiser_is_its_floor",
            "test_mixture.py::test_the_simple_loss_of_the_exact_denoiser_is_its_floor",
            "test_mixture.py::test_a_step_with_beta_tilde_costs_half_its_gain_in_snr_times_the_mean_square_error",
            "test_mixture.py::test_the_steps_of_a_fine_chain_sum_to_the_information_in_its_noise",
        ),
        (16, 17, 19, 20),
    ),
    Row(
        "M15",
        "constants: what may be dropped from a gradient, never from a reported bound; the simple loss is another objective",
        (
            "kakusan.distributions.HALF_LOG_2PI",
            "kakusan.models.diffusion.Diffusion.bound_constant",
            "kakusan.models.diffusion.Diffusion.loss",
        ),
        (
            "test_distributions.py::test_the_constant_of_a_log_density_is_kept",
            "test_diffusion.py::test_a_network_that_does_nothing_has_the_known_bound",
            "test_diffusion.py::test_a_loss_is_minus_the_bound_a_dimension",
            "test_statements.py::test_simple_loss_and_bound_share_their_minimiser_only_if_the_network_is_free",
        ),
        (2, 10),
    ),
)

ERRATA = (
    Row(
        "E5",
        "written: J3 = -E KL(q(z_1 | x) || p(z_1 | z_2)); right: S18, larger by Σ Cov(z_1h, ẑ_1h)",
        ("kakusan.models.hierarchical_vae.HierarchicalVAE.terms_on",),
        (
            "test_hierarchy.py::test_the_two_forms_are_told_apart_by_their_draws",
            "test_hierarchy.py::test_the_two_forms_differ_by_the_covariance_of_z1_and_its_reconstruction",
            "test_hierarchy.py::test_at_the_exact_posterior_every_draw_is_the_evidence",
            "test_hierarchy.py::test_training_on_the_notes_form_ends_with_too_narrow_an_encoder",
        ),
        (4, 5),
    ),
    Row(
        "E12",
        "written: Gaussian noise at every step, hence pure noise at the end; right: only if ᾱ_T -> 0",
        ("kakusan.schedule.Schedule.from_betas", "kakusan.models.diffusion.Diffusion.prior_kl"),
        (
            "test_errata.py::test_noise_whose_amounts_have_a_finite_sum_never_drowns_the_data",
            "test_schedule.py::test_a_schedule_that_leaves_half_of_the_data_is_reported",
        ),
        (7,),
    ),
    Row(
        "E14",
        "written: identity covariance for simplicity; right: harmless for the best mean, ruinous for samples and bound",
        ("kakusan.models.diffusion.Variance",),
        (
            "test_errata.py::test_the_best_mean_is_the_same_for_every_variance_of_the_reverse_step",
            "test_errata.py::test_with_identity_covariance_the_best_mean_generates_variance_276_and_with_beta_1",
            "test_mixture.py::test_the_exact_denoiser_has_the_best_bound_of_its_variance",
        ),
        (17, 19),
    ),
    Row(
        "E22",
        "written: √(α_t - α_t α_{t-1}) eps; right: √(1 - α_t α_{t-1}) eps",
        ("kakusan.schedule.Schedule.noise_var",),
        ("test_schedule.py::test_two_steps_merge_into_one_of_variance_0_28_and_not_0_08",),
        (9,),
    ),
    Row(
        "E23c",
        "unsaid: a pair (z_{t-1}, z_t) may not be drawn from two independent closed forms",
        ("kakusan.models.diffusion.Diffusion.elbo_pair",),
        ("test_diffusion.py::test_a_faulty_estimator_is_many_standard_errors_off",),
        (15,),
    ),
    Row(
        "E25",
        "written: the KL is convex in γ; right: in the mean parameters, and still with one stationary point",
        ("kakusan.models.dirichlet_multinomial.DirichletMultinomial.elbo",),
        (
            "test_errata.py::test_the_kl_bends_downwards_at_twice_the_posterior_for_every_data_set",
            "test_errata.py::test_in_the_mean_parameters_the_kl_is_convex",
            "test_errata.py::test_the_midpoint_that_fails_in_gamma_holds_in_the_mean_parameters",
            "test_conjugate.py::test_the_kl_along_the_symmetric_ray_is_the_oracles_and_not_convex",
            "test_conjugate.py::test_the_kl_rises_along_every_ray_from_the_posterior",
        ),
        (28,),
    ),
    Row(
        "E29",
        "written: log(σ ** 2) of σ = exp(log σ² / 2), lost in float32; right: log σ² itself",
        ("kakusan.distributions.normal_kl", "kakusan.distributions.Normal.from_log_var"),
        (
            "test_errata.py::test_the_notes_way_to_write_the_kl_is_lost_in_float32_and_the_models_is_not",
            "test_distributions.py::test_log_variances_from_minus_200_to_88_give_finite_kl_and_gradients_in_float32",
            "test_distributions.py::test_log_squared_std_would_not_pass_that_test",
        ),
        (30,),
    ),
)

BEYOND = (
    Row(
        "B1",
        "with a cluster k above z_T, q(k | x) certain: log p(x) >= log p(k(x)) + ELBO(x | k(x))",
        ("kakusan.models.clusters.Clusters", "kakusan.models.diffusion.Diffusion.about"),
        (
            "test_clusters.py::test_the_bound_lies_below_the_log_density_of_the_mixture_by_what_the_steps_cost_alone",
            "test_clusters.py::test_each_price_of_the_bound_is_that_of_the_clusters_own_chain_and_its_share",
            "test_clusters.py::test_what_is_written_for_every_chain_is_right_for_one_of_clusters",
            "test_clusters.py::test_an_evaluation_names_the_cluster_among_its_terms",
        ),
    ),
    Row(
        "B2",
        "samples are of p(k) p(x | k), and each depends on its own stream alone",
        ("kakusan.models.clusters.Clusters.draw", "kakusan.models.diffusion.Diffusion.drawn"),
        (
            "test_clusters.py::test_clusters_are_drawn_as_often_as_their_share",
            "test_clusters.py::test_every_sampler_draws_a_cluster_for_each_sample_and_samples_it",
            "test_clusters.py::test_a_sample_depends_on_its_own_stream_alone",
        ),
    ),
)

GROUPS = (
    Group("Notes A, 8.1.1: the VAE", VAE_ROWS),
    Group("Notes A, 8.1.2: stacking latents", STACKING),
    Group("Notes A, appendix C: the two-level VAE", TWO_LEVELS),
    Group("Notes A, 8.1.3: from hierarchy to diffusion", TO_DIFFUSION),
    Group("Notes A, 8.2: the two processes", TWO_PROCESSES),
    Group("Notes A, 8.3: the ELBO from T samples", T_SAMPLES),
    Group("Notes A, 8.4: the closed form, and fewer samples", CLOSED_FORM),
    Group("Notes B: one model where everything is known", NOTES_B),
    Group("Completed mathematics", COMPLETED),
    Group("Errata", ERRATA),
    Group("Beyond the notes", BEYOND),
)
