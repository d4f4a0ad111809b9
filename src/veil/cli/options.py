"""The arguments and options of ``veil fit``, and those that commands share, each with its line of help."""

from pathlib import Path
from typing import Annotated, Any

import typer

DATA, MODEL, LEARNING, CHOICE = "The data", "The model", "Learning", "Choosing between models"
RUNNING = "Running"


def on(panel: str, *names_and_words: str, **more: Any) -> Any:
    *names, words = names_and_words
    return typer.Option(*names, help=words, rich_help_panel=panel, **more)


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A name from: veil models.")]
DataSource = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .csv, .parquet, .npy or .npz file, a recording (veil collect, Minari, robomimic, LeRobot, zarr), a "
        "name from: veil data, or a folder or a pattern with --stream.",
    ),
]
RunToMake = Annotated[Path, typer.Option("--out", metavar="RUN", help="The run directory to make.")]
RunToUse = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
FileToMake = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="A .csv, .parquet, .npz or .npy file to write.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite RUN, if it is a run.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No bars, no notes, no summary.")]

Query = Annotated[str | None, on(DATA, "--query", "Columns to model: a,b.")]
Evidence = Annotated[str | None, on(DATA, "--evidence", "Columns to condition on: c,d.")]
OtherQuery = Annotated[str | None, on(DATA, "--query", "Columns in place of those of the fit.")]
OtherEvidence = Annotated[str | None, on(DATA, "--evidence", "Columns in place of those of the fit.")]
Weight = Annotated[str | None, on(DATA, "--weight", "The column with each datum's weight.")]
Unweighted = Annotated[bool, on(DATA, "--unweighted", "Count every datum once.")]
Episode = Annotated[
    str | None,
    on(DATA, "--episode", "The column that says which sequence a row belongs to; without it all rows are one."),
]
Time = Annotated[str | None, on(DATA, "--time", "The column that orders the steps of a sequence.")]
Window = Annotated[int | None, on(DATA, "--window", "Cut sequences into windows of so many steps.", min=1)]
Carry = Annotated[
    bool, on(LEARNING, "--carry", "With --window: go on from one window of a sequence to the next (deep models).")
]
OtherEpisode = Annotated[str | None, on(DATA, "--episode", "The column of the sequences, in place of that of the fit.")]
OtherTime = Annotated[str | None, on(DATA, "--time", "The column of the steps' order, in place of that of the fit.")]
Stream = Annotated[bool, on(DATA, "--stream", "Read the file or files in blocks, not into memory.")]
Bad = Annotated[str | None, on(DATA, "--bad", "Records of a stream that cannot be read: refuse (default) or skip.")]
ImageSize = Annotated[
    str | None, on(DATA, "--image-size", "Resize the images of a folder: 32, or 32x48 (height and width).")
]
BlockRows = Annotated[int | None, on(DATA, "--block-rows", "Rows in a block of a stream.", min=1)]

Components = Annotated[
    int | None,
    on(MODEL, "--components", "How many values the latent has; of hmm and switching-lds states.", min=1),
]
Covariance = Annotated[
    str | None, on(MODEL, "--covariance", "full, tied, diagonal, spherical, ...; see: veil models MODEL.")
]
Head = Annotated[
    str | None,
    on(
        MODEL,
        "--head",
        "--likelihood",
        "gaussian, student-t, log-normal, truncated-normal:LOW:HIGH, squashed:LOW:HIGH[:MARGIN], beta:LOW:HIGH, "
        "von-mises, symlog, two-hot:BINS, bernoulli, soft-bernoulli, poisson, negative-binomial, "
        "zero-inflated:poisson, categorical or categorical:COUNT, multinomial:TOTAL, discretised-logistic or "
        "discretised-logistic:LEVELS:LOW:HIGH; by part: frame=bernoulli,reward=gaussian.",
    ),
]
Gate = Annotated[str | None, on(MODEL, "--gate", "evidence or constant: what the gate sees.")]
Experts = Annotated[str | None, on(MODEL, "--experts", "evidence or constant: what the experts see.")]
Hidden = Annotated[str | None, on(MODEL, "--hidden", "Sizes of the network's hidden layers, or of its levels: 64,64.")]
Decoder = Annotated[
    str | None,
    on(MODEL, "--decoder", "Of a sequence model: network, pyramid or convolutional; default for images: pyramid."),
]
Memory = Annotated[int | None, on(MODEL, "--memory", "Numbers that a recurrent model remembers.", min=1)]
Width = Annotated[int | None, on(MODEL, "--width", "Size of the networks of a transition, or of a field.", min=1)]
Depth = Annotated[int | None, on(MODEL, "--depth", "Blocks of a field's residual network.", min=1)]
Layers = Annotated[int | None, on(MODEL, "--layers", "Coupling layers of a flow.", min=1)]
Knots = Annotated[int | None, on(MODEL, "--knots", "Knots of a flow's splines; 0: affine layers.", min=0)]
PathName = Annotated[str | None, on(MODEL, "--path", "Of a diffusion: log-linear, cosine or straight.")]
Draws = Annotated[int | None, on(MODEL, "--draws", "Steps that a draw takes from noise to data.", min=1)]
Activation = Annotated[str | None, on(MODEL, "--activation", "tanh, relu, silu, gelu, elu or softplus.")]
Start = Annotated[str | None, on(MODEL, "--start", "k-means, random-rows or random-responsibilities.")]

Latent = Annotated[
    str | None,
    on(
        MODEL,
        "--latent",
        "Dimensions of the latent: 10; or mixture:10:5, vamp:10:20, flow:10, codes:10:8, residual:2:16, levels:2:10.",
    ),
]

Posterior = Annotated[
    str | None,
    on(
        LEARNING,
        "--posterior",
        "exact, amortized, amortized-full, amortized-flow, table, table-full or refined; of sequences: filtering or "
        "smoothing.",
    ),
]
RefineSteps = Annotated[int | None, on(LEARNING, "--refine-steps", "Gradient steps of a refined posterior.", min=0)]
Objective = Annotated[
    str | None,
    on(
        LEARNING,
        "--objective",
        "em, monte-carlo-em, marginal, elbo, importance-weighted, wake-sleep, fivo, flow-matching or denoising.",
    ),
]
Gradient = Annotated[
    str | None,
    on(LEARNING, "--gradient", "pathwise, sticking-the-landing, score-function, gumbel-softmax, enumerated, ..."),
]
Samples = Annotated[int | None, on(LEARNING, "--samples", "Draws of the latent for each datum.", min=1)]
Beta = Annotated[float | None, on(LEARNING, "--beta", "Weight of the KL in the ELBO.")]
WarmUp = Annotated[int | None, on(LEARNING, "--warm-up", "Steps in which the KL's weight climbs to one.", min=1)]
FreeNats = Annotated[float | None, on(LEARNING, "--free-nats", "KL of each dimension that costs nothing.")]
KLBalance = Annotated[
    float | None,
    on(LEARNING, "--kl-balance", "Share of the KL's gradient that the prior gets: 0.8; for deep sequence models."),
]
Steps = Annotated[int | None, on(LEARNING, "--steps", "At most this many.", min=1)]
BatchSize = Annotated[int | None, on(LEARNING, "--batch-size", "Rows that a step sees.", min=1)]
LearningRate = Annotated[
    float | None, on(LEARNING, "--learning-rate", "Learn by gradients: Adam from this rate to zero.")
]
Average = Annotated[
    float | None,
    on(LEARNING, "--average", "Learn a moving average of the parameters, of this decay a step: 0.999."),
]
Restarts = Annotated[int, on(LEARNING, "--restarts", "Starts, of which the best is kept.", min=1)]
Tolerance = Annotated[float | None, on(LEARNING, "--tolerance", "EM stops when fewer nats per datum are left to gain.")]
HeldOut = Annotated[float | None, on(LEARNING, "--held-out", "Fraction of the data to hold out.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.", min=0, max=2**63 - 1)]
Precision = Annotated[
    str | None, on(LEARNING, "--precision", "float32 or float64; default: float64 for EM, float32 for gradients.")
]

CheckpointEvery = Annotated[
    float | None, on(RUNNING, "--checkpoint-every", "Seconds between checkpoints: 30; 0 for none.", min=0)
]
Resume = Annotated[bool, on(RUNNING, "--resume", "Go on with a fit that was stopped: the same command with this word.")]
Log = Annotated[str | None, on(RUNNING, "--log", "tensorboard: metrics for TensorBoard too, in RUN/tensorboard.")]
MixedPrecision = Annotated[bool, on(RUNNING, "--mixed-precision", "Networks multiply in bfloat16 and add in float32.")]
Devices = Annotated[int | None, on(RUNNING, "--devices", "Share the rows out over this many devices.", min=1)]
Coordinator = Annotated[
    str | None,
    on(RUNNING, "--coordinator", "HOST:PORT of process 0, the same in every process; auto: from the cluster."),
]
Processes = Annotated[int | None, on(RUNNING, "--processes", "How many processes fit together.", min=1)]
Process = Annotated[int | None, on(RUNNING, "--process", "Which of them this one is: 0, 1, ...", min=0)]

Select = Annotated[
    str | None,
    on(
        CHOICE,
        "--select",
        "Numbers to choose from, 1-8, or 2,4,8: of components, of hmm's states, or else of latent dimensions; "
        "--covariance may be several, too.",
    ),
]
Criterion = Annotated[str | None, on(CHOICE, "--criterion", "bic, aic or held-out.")]

BoundSamples = Annotated[
    int | None,
    typer.Option("--samples", help="Draws of the latent for a bound; default: 1000, of large data fewer.", min=1),
]
Thorough = Annotated[
    bool, typer.Option("--thorough", help="Also annealed bounds, the gap's parts and calibration (minutes).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
Filtered = Annotated[
    bool, typer.Option("--filtered", help="Of sequences: each step given itself and those before it only.")
]
Paths = Annotated[
    int | None, typer.Option("--paths", help="Of sequences: so many draws of the path given all of it.", min=1)
]
Particles = Annotated[
    int | None,
    typer.Option("--samples", help="Particles of a filter where nothing is exact (switching-lds; 1000).", min=1),
]
SequenceSteps = Annotated[
    int | None, typer.Option("--steps", help="Of a sequence model without evidence: how long the sequences are.", min=1)
]
Count = Annotated[int, typer.Option("--count", help="How many draws; with evidence, for each row of it.", min=1)]
EvidenceValues = Annotated[
    str | None, typer.Option("--evidence-values", help="A file, or a name, with rows of evidence to draw for.")
]
