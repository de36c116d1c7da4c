"""`python -m kakusan`, which is what torchrun starts: torchrun -m kakusan train ..."""

from kakusan.cli import main

if __name__ == "__main__":
    main()
