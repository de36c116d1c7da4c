"""Entry point of `python -m kakusan` and of `torchrun -m kakusan train ...`."""

from kakusan.cli import main

if __name__ == "__main__":
    main()
