"""The schema of a run: every setting, its unit, its range and its default.

Sections are frozen and refuse unknown keys. `facemorph_core.config.load` is the only reader
of YAML; below that edge no code asks whether a value is set.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from facemorph_core.latent.geometry import GeometryKind, network_numbers

MOST_NOISE = 1e4
"""Beyond it the cost of a step is lost in the rounding of the accountant."""


class Section(BaseModel):
    """A frozen part of the config; an unknown key is a mistake, not a wish."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _number(value: object) -> object:
    """PyYAML reads ``1e-5`` (no dot) as text; it means a number here."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _kind(default: str) -> BeforeValidator:
    """A section that names no kind is of the default one, so that ``model.width=32`` is enough."""

    def with_kind(value: object) -> object:
        return {"kind": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(with_kind)


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
NonNegative = Annotated[Real, Field(ge=0)]
Noise = Annotated[Real, Field(gt=0, le=MOST_NOISE)]
Fraction = Annotated[Real, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


# --- model -----------------------------------------------------------------------------------


class AutoencoderConfig(Section):
    """What all kinds of autoencoder share."""

    latent_dim: Count = 128
    """Numbers in the code of a face."""
    image_size: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    """Side of the aligned face, pixels."""
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 64
    """Channels of the first stage; the stages have 1, 2, 4, 8 times as many."""
    geometry: GeometryKind = "plain"
    """plain: the code describes the frame; mean_shape: 24 of its numbers are the face's shape,
    the others its texture in the mean shape."""

    @property
    def network_numbers(self) -> int:
        """The numbers of the code that the networks make: all, or all but the shape's."""
        return network_numbers(self.latent_dim, self.geometry)

    @model_validator(mode="after")
    def _leaves_room_for_texture(self) -> AutoencoderConfig:
        network_numbers(self.latent_dim, self.geometry)
        return self


class AEConfig(AutoencoderConfig):
    """Deterministic autoencoder, squared norm of the code as its only regulariser."""

    kind: Literal["ae"] = "ae"


class VAEConfig(AutoencoderConfig):
    """Variational autoencoder (Kingma & Welling, 2014)."""

    kind: Literal["vae"] = "vae"


class VAEGANConfig(AutoencoderConfig):
    """VAE with a least-squares discriminator that never leaves its site."""

    kind: Literal["vaegan"] = "vaegan"
    discriminator_width: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the discriminator's first layer."""


ModelConfig = Annotated[
    AEConfig | VAEConfig | VAEGANConfig, Field(discriminator="kind"), _kind("vae")
]


# --- loss and training -----------------------------------------------------------------------


class LossConfig(Section):
    """Weights of the terms; each term is one number per image. A weight of 0 skips its cost."""

    l1: NonNegative = 1.0
    """Mean absolute error over the image's values, in the model's units ([-1, 1])."""
    squared: NonNegative = 0.0
    """Mean squared error over the image's values."""
    face: NonNegative = 0.0
    """What a pixel inside the face weighs more than one outside in l1 and squared; 0 is alike."""
    perceptual: NonNegative = 0.0
    """Distance of VGG16 features."""
    perceptual_distance: Literal["features", "lpips"] = "features"
    """features: mean absolute difference of three stages (Johnson et al., 2016); lpips: all five
    stages as LPIPS weighs them (Zhang et al., 2018), nearer to what people see."""
    perceptual_crop: Annotated[int, Field(ge=32)] = 64
    """Side of the random crop that VGG16 sees, pixels; the image size or more means all of it."""
    identity: NonNegative = 0.0
    """1 - cosine of MobileFaceNet's embeddings of the made and the real face."""
    identity_faces: Count = 8
    """Faces of a batch that MobileFaceNet looks at: each costs more than its own reconstruction.
    Under differential privacy it looks at all: no photo's gradient may depend on another photo."""
    adversarial: NonNegative = 0.0
    """Least-squares adversarial term (Mao et al., 2017); VAE-GAN only. 0.003 to 0.03 beside
    l1 = 1; at 0.1 the reconstruction hardly learns."""
    adversarial_start: NonNegative = 0.0
    """Share of the run (0 to 1) after which the adversarial term counts."""
    kl: NonNegative = 1e-3
    """Weight of KL(q(z|x) || N(0, I)), nats per latent number; VAE and VAE-GAN."""
    kl_warmup: Fraction = 0.1
    """Share of the run over which the KL weight rises linearly from 0."""
    latent_l2: NonNegative = 1e-4
    """Weight of the mean square of the code; AE only."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if not self.l1 + self.squared + self.perceptual > 0:
            raise ValueError("there is nothing to learn: l1, squared and perceptual are all 0")
        return self


class TrainingConfig(Section):
    """How a site (or `facemorph-core train`) steps through its faces."""

    epochs: Count = 200
    """Passes over the data in central training; a federated run takes federation.local_epochs."""
    batch_size: Count = 64
    """Images a step; the expected size under differential privacy (Poisson sampling)."""
    optimiser: Literal["adam", "muon"] = "adam"
    """muon: orthogonal steps for convolutions and linear layers, Adam for the rest; from a random
    start it needs a third of the images. Not under differential privacy."""
    learning_rate: Positive = 2e-4
    """The step size at its highest, in Adam's units: 2e-3 serves Muon, 2e-4 to 1e-3 Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate over the whole run."""
    warmup: Fraction = 0.0
    """Share of the run over which the learning rate rises linearly from 0."""
    adam_betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Decay of Adam's two moments."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay (AdamW)."""
    grad_clip: NonNegative = 1.0
    """Largest norm of the gradient of a step; 0 is off. Not the clipping of `privacy`."""
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Decay of the running mean of the weights that is evaluated and released; 0 is off."""
    mirror: bool = True
    """Show a face mirrored every other time."""
    surroundings: Fraction = 0.0
    """Share of faces that are shown with hair and background of another photo of the batch. Not
    under differential privacy: no photo's gradient may depend on another photo."""
    light: Fraction = 0.0
    """Most that brightness and contrast of a photo are changed by, each time it is shown."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """What matrices are multiplied in, by networks and by Muon. auto: bfloat16 where the device
    computes it natively, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one. A private round with an identity term
    is computed on the CPU all the same."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of torch; 0 leaves torch's own choice."""


# --- data ------------------------------------------------------------------------------------


class IIDPartition(Section):
    """Photos dealt at random."""

    kind: Literal["iid"] = "iid"


class ByPersonPartition(Section):
    """Each person's photos lie at exactly one site."""

    kind: Literal["by_person"] = "by_person"


class DirichletPartition(Section):
    """Sites differ in an attribute: shares per value drawn from Dirichlet(alpha)."""

    kind: Literal["dirichlet"] = "dirichlet"
    attribute: str
    """A column of the shard's index, for example Male."""
    alpha: Positive = 0.3
    """Concentration: small is very unequal, large is nearly iid."""


class QuantityPartition(Section):
    """Sites differ in size: shares of the people drawn from Dirichlet(alpha)."""

    kind: Literal["quantity"] = "quantity"
    alpha: Positive = 0.5
    """Concentration: small is very unequal, large is nearly equal."""


PartitionConfig = Annotated[
    IIDPartition | ByPersonPartition | DirichletPartition | QuantityPartition,
    Field(discriminator="kind"),
    _kind("by_person"),
]


class DataConfig(Section):
    """Where the faces of a simulation or of central training come from.

    A real site has its own shard and ignores this section.
    """

    source: Literal["orl", "celeba", "folder", "shard"] = "orl"
    """orl: the demo faces; celeba: the official layout; folder: person/photo; shard: prepared."""
    path: str = ""
    """Folder of the source; not needed for orl. `~` and $VARIABLES are expanded."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Take so many photos of the source at most, whole people first; 0 takes all."""
    partition: PartitionConfig = ByPersonPartition()
    """Who owns which face in a simulation."""
    site_val: Annotated[Real, Field(ge=0, lt=1)] = 0.1
    """Share of each site's people (at least one, if there are two) that it scores on and does
    not train on."""

    @model_validator(mode="after")
    def _needs_a_path(self) -> DataConfig:
        if self.source != "orl" and not self.path:
            raise ValueError(f"source '{self.source}' needs data.path")
        return self


class EvaluationConfig(Section):
    """What the server scores the global model on. Sites send sums of their own scores."""

    faces: Literal["held_out", "orl", "shard", "none"] = "held_out"
    """held_out: people of the data source that are at no site, in a simulation; with real sites as
    none; orl: public demo faces; shard: a shard of public faces at the server; none: only what the
    sites report."""
    shard: str = ""
    """Folder of the shard for `faces: shard`."""
    split: Literal["val", "test"] = "val"
    """Split of those faces that is scored."""
    max_faces: Count = 256
    """Score so many faces at most, the same ones every round."""
    every: Count = 1
    """Score after every so many rounds, and after the last."""
    samples: Annotated[int, Field(ge=0)] = 16
    """Faces drawn from random codes in the sample grid."""

    @model_validator(mode="after")
    def _needs_a_shard(self) -> EvaluationConfig:
        if self.faces == "shard" and not self.shard:
            raise ValueError("faces 'shard' needs evaluation.shard")
        return self


# --- federation ------------------------------------------------------------------------------


class RuleConfig(Section):
    """A rule that merges the sites' weights."""

    @property
    def least_replies(self) -> int:
        """Usable replies without which the rule cannot keep what it promises."""
        return 1


class FedAvgConfig(RuleConfig):
    """Mean weighted by images (McMahan et al., 2017)."""

    kind: Literal["fedavg"] = "fedavg"


class FedProxConfig(RuleConfig):
    """FedAvg whose sites are held near the global model (Li et al., 2020)."""

    kind: Literal["fedprox"] = "fedprox"
    mu: NonNegative = 1e-5
    """Weight of half the squared distance to the global weights. The losses are means over pixels,
    some hundredths, and a round moves millions of weights: 0.01 would outweigh them."""


class AdaptiveConfig(RuleConfig):
    """An optimiser on the server that takes the mean update for a gradient (Reddi et al., 2021)."""

    learning_rate: Positive = 1e-2
    """Step size of the server."""
    beta_1: Fraction = 0.9
    """Decay of the first moment."""
    beta_2: Fraction = 0.99
    """Decay of the second moment."""
    tau: Positive = 1e-3
    """Degree of adaptivity."""


class FedAdamConfig(AdaptiveConfig):
    """Adam on the server."""

    kind: Literal["fedadam"] = "fedadam"


class FedYogiConfig(AdaptiveConfig):
    """Yogi on the server."""

    kind: Literal["fedyogi"] = "fedyogi"


class TrimmedMeanConfig(RuleConfig):
    """Mean of each weight without its extremes (Yin et al., 2018); images do not weigh."""

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    beta: Annotated[Real, Field(ge=0, lt=0.5)] = 0.2
    """Share of the sites dropped at either end."""

    @property
    def least_replies(self) -> int:
        """So many that one is dropped at either end."""
        if self.beta == 0:
            return 1
        least = math.ceil(1 / self.beta)
        return least if int(self.beta * least) else least + 1  # as Flower counts


class KrumConfig(RuleConfig):
    """The update nearest to its neighbours (Blanchard et al., 2017)."""

    kind: Literal["krum"] = "krum"
    num_malicious: Annotated[int, Field(ge=0)] = 0
    """Sites assumed to be hostile."""

    @property
    def least_replies(self) -> int:
        """More than twice the hostile ones and two (Blanchard et al., 2017, proposition 4.2)."""
        return 2 * self.num_malicious + 3


StrategyConfig = Annotated[
    FedAvgConfig | FedProxConfig | FedAdamConfig | FedYogiConfig | TrimmedMeanConfig | KrumConfig,
    Field(discriminator="kind"),
]


class FederationConfig(Section):
    """Rounds, sites and the rule that merges them."""

    rounds: Count = 10
    """Rounds of the whole run."""
    sites: Count = 2
    """Sites of a simulation; plain `flwr run` takes the nodes that there are instead."""
    local_epochs: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Passes over its faces that a site makes in a round."""
    strategy: StrategyConfig = FedAvgConfig()
    """The rule that merges the sites' weights."""
    codec: Literal["float32", "float16", "int8"] = "float32"
    """How updates travel from the sites. What int8 or float16 lose, a site sends later."""
    ema_decay: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    """Decay of the running mean of the global weights over rounds, which is scored and released;
    0 is off."""
    reply_memory: Positive = 4.0
    """GiB that the updates of a round may take at the server under rules that need all of them at
    once (krum, trimmed_mean); the others need one at a time."""
    fraction: Annotated[Real, Field(gt=0, le=1)] = 1.0
    """Share of the sites that train in a round."""
    quorum: Count = 2
    """Usable replies that a round needs; in a simulation capped by its sites."""
    deadline: Positive = 3600.0
    """Seconds after which a round goes on without those who have not answered."""
    join_deadline: Positive = 600.0
    """Seconds to wait for a quorum of sites before a round."""
    max_images: Annotated[Count, Field(le=2**40)] = 10_000_000
    """Images that one site may say it has; a reply that says more is set aside."""
    max_count_ratio: Annotated[Real, Field(ge=1)] = 10.0
    """A site weighs at most this many times the median of a round's sites."""
    max_norm_ratio: Annotated[Real, Field(ge=1)] = 10.0
    """An update counts with at most this many times the usual norm: the median of its round and of
    the round before. One of this many times the norm of the weights themselves is set aside."""
    max_failed_rounds: Count = 3
    """Rounds in a row without a quorum of usable replies after which the run stops."""
    keep_checkpoints: Annotated[int, Field(ge=0)] = 5
    """Newest rounds whose weights stay on the server's disk, beside the best one's; 0 keeps all."""
    evaluate_every: Annotated[int, Field(ge=0)] = 1
    """Sites score the merged model after every so many rounds and the last; 0 is never. Under
    differential privacy only with `privacy.scoring`."""

    @model_validator(mode="after")
    def _quorum_serves_the_rule(self) -> FederationConfig:
        least = self.strategy.least_replies
        if self.quorum < least:
            raise ValueError(
                f"strategy '{self.strategy.kind}' as it is set needs {least} usable replies, "
                f"and quorum is {self.quorum}: raise quorum, and have as many sites"
            )
        return self

    def scores_are_due(self, number: int) -> bool:
        """Whether sites score the model after round ``number``."""
        every = self.evaluate_every
        if every == 0 or number > self.rounds:
            return False
        return number % every == 0 or number == self.rounds


class PrivateScoring(Section):
    """Sums of scores with noise: what sites under differential privacy may say of a model."""

    noise_multiplier: Noise = 4.0
    """Standard deviation of the noise of the sums, in units of what one photo can add to them."""
    people: Count = 20
    """A site that keeps fewer people aside does not score."""


class PrivacyConfig(Section):
    """DP-SGD at every site (Abadi et al., 2016), one photo being the unit that is protected."""

    noise_multiplier: Noise
    """Standard deviation of the noise divided by max_grad_norm."""
    max_grad_norm: Annotated[Real, Field(ge=1e-6, le=1e6)] = 1.0
    """Bound on the norm of one photo's gradient."""
    delta: Annotated[Real, Field(gt=0, lt=0.5)] = 1e-5
    """Probability that the guarantee may fail; well below one over the number of photos at a
    site, which refuses one that is not below it."""
    max_epsilon: Positive = 8.0
    """A site stops before its epsilon, composed over all rounds, passes this."""
    scoring: PrivateScoring | None = None
    """How sites score the merged model; absent means that they do not."""


# --- the run ---------------------------------------------------------------------------------


class RunConfig(Section):
    """Everything that decides a run.

    Examples:
        >>> config = RunConfig(name="mine", training={"epochs": 3})
        >>> config.model.kind, config.training.epochs, config.privacy
        ('vae', 3, None)
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the run, its directory and its model."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random stream of the run."""
    resume: Literal["auto", "never", "must"] = "auto"
    """auto: go on with an interrupted run of the same config; never: start anew in a fresh
    directory; must: refuse to start from nothing, and make a complete run longer if more rounds are
    asked for."""
    start: str = ""
    """The model to start from: a bundle, a run, hub://HOST:PORT/NAME@VERSION, or starter, the one
    that comes with facemorph_core; empty is from nothing."""
    data: DataConfig = DataConfig()
    """Faces of a simulation or of central training."""
    model: ModelConfig = VAEConfig()
    """The autoencoder."""
    loss: LossConfig = LossConfig()
    """Weights of the loss terms."""
    training: TrainingConfig = TrainingConfig()
    """Local optimisation."""
    federation: FederationConfig = FederationConfig()
    """Rounds and sites."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What the server scores."""
    privacy: PrivacyConfig | None = None
    """Absent means no differential privacy, and the run says so."""

    @model_validator(mode="after")
    def _private_gan_is_refused(self) -> RunConfig:
        if self.privacy is not None and self.model.kind == "vaegan":
            raise ValueError(
                "privacy with model.kind 'vaegan' is refused: the discriminator sees the photos "
                "too and its steps are not covered by DP-SGD yet; use 'vae' or 'ae'"
            )
        return self

    @model_validator(mode="after")
    def _private_steps_are_adams(self) -> RunConfig:
        if self.privacy is not None and self.training.optimiser != "adam":
            raise ValueError(
                f"privacy with training.optimiser '{self.training.optimiser}' is refused: "
                "orthogonal steps raise the noise of DP-SGD to the size of the signal; use 'adam'"
            )
        return self

    @model_validator(mode="after")
    def _private_photos_stay_apart(self) -> RunConfig:
        if self.privacy is not None and self.training.surroundings > 0:
            raise ValueError(
                "privacy with training.surroundings is refused: each photo would show a part of "
                "another one, which DP-SGD does not count; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _adversarial_needs_a_gan(self) -> RunConfig:
        if self.loss.adversarial > 0 and self.model.kind != "vaegan":
            raise ValueError("loss.adversarial needs model.kind 'vaegan'")
        return self
