"""A worker process with a mutant: ``python -m tests.gradcheck.mutation.worker MUTANT``.

``@FILE`` in a mutant's place has the names of all functions that were run appended to the file.
"""

import sys

from dptrain.worker.launched import main
from tests.gradcheck.mutation.mutants import Mutant, infect
from tests.gradcheck.mutation.traced import traced

if __name__ == "__main__":
    name = sys.argv[1]
    if name.startswith("@"):
        with traced(name[1:]):
            code = main()
        sys.exit(code)
    infect(Mutant.named(name))
    sys.exit(main())
