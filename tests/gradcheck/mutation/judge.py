"""Whether a diagnosis of a mutant is right: by the place of the change, or by its kind."""

import re

from tests.gradcheck.mutation.mutants import Mutant

# Kinds that name nothing.
NOTHING = ("unexplained", "run-ended", "update", "follows", "gradient")
# What a right sentence, or the name of its kind, has in it, by where the mutated function stands.
PLACES: tuple[tuple[str, str], ...] = (
    (r"^nn\.batchnorm", r"batch ?norm|running|average|statistic|variance"),
    (r"^nn\.layernorm", r"layer ?norm"),
    (r"^nn\.dropout|^arithmetic\.randomness", r"drop|mask|draw|random|initial|order|augment|noise"),
    (r"^nn\.(convolution|patches|windows)", r"conv|pool|image|window|patch|filter"),
    (r"^nn\.pooling", r"pool"),
    (r"^nn\.(activations|gelu|rectifiers|silu)",
     r"relu|tanh|sigmoid|gelu|silu|softplus|activation|derivative"),
    (r"^nn\.dense", r"dense|bias|flatten|transpose|decay"),
    (r"^nn\.initializers|initial_parameters", r"initial|begin|draw|start"),
    (r"^nn\.(loss|losses|binary_cross|cross|regression|hinge|composite)",
     r"loss|softmax|target|label|class|accuracy"),
    (r"^nn\.normalise", r"normalis|standard|input|mean|deviation"),
    (r"^nn\.context", r"wait|arriv|layer|drop|table"),
    (r"^nn\.passes", r"loss|backward|rows|correct|accuracy|evaluation|shard|target|input|output"),
    (r"^nn\.", r"layer|tensor|shape|order|exchanged|output|passes back"),
    (r"^optim\.schedules", r"rate|schedule|warm|decay"),
    (r"^optim\.(links|updater)",
     r"clip|decay|penalty|norm|average|frozen|chunk|update is|applied|buffer"),
    (r"^optim\.", r"moment|velocity|rate|ε|epsilon|bias correction|root|square|update"),
    (r"^data\.(augmentation|warping)", r"augment|shift|rotat|noise|added"),
    (r"^data\.sampling", r"order|rows|split|held|shuffl"),
    (r"^data\.", r"rows|split|target|input|grey|held|scal|label"),
    (r"^exchange\.(star|buckets)|^worker\.gradients", r"bucket|star|wire|stale|weights|table|copy"),
    (r"^exchange\.(slices|collective)", r"slice|wait|arriv|early|stale|norm|clip|update|sum|shard"),
    (r"^worker", r"evaluat|rank|message|join|stale|weights|step"),
    (r"^exchange\.rank", r"rows|shard|evaluat|gather|backward|input|augment"),
    (r"^exchange\.|^coordinator\.(shared|star|cluster)", r"slice|rank|shard|stale|record|plan|loss|"
     r"weights|state|order|evaluat|wait|update is"),
    (r"^coordinator\.(trainer|progress|run|initial_state|outcome|resuming|signals)",
     r"record|checkpoint|epoch|evaluat|best|resum|patience|log|digest|file|saved|arithmetic"),
    (r"^checkpoint", r"checkpoint|saved|state|resum|file|tensor|lost"),
    (r"^arithmetic\.tree", r"sum|shard|tree|norm|add"),
    (r"^arithmetic\.(kind|platform)", r"arithmetic|blas|numpy|record"),
    (r"^arithmetic\.shards", r"shard|rows"),
    (r"^arithmetic\.digest", r"digest|fingerprint"),
    (r"^evaluation", r"evaluat|accuracy|R²|score|loss"),
)  # fmt: skip


def right(mutant: Mutant, kind: str, sentence: str) -> bool:
    """Return whether kind or sentence have the place of the change; kinds of nothing never do."""
    where = f"{mutant.module.removeprefix('dptrain.')}:{mutant.function}"
    if kind in NOTHING:
        return False
    words = next((words for place, words in PLACES if re.search(place, where)), None)
    return words is not None and re.search(words, f"{kind} {sentence}", re.IGNORECASE) is not None
