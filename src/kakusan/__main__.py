"""Entry point of the command, of `python -m kakusan` and of `torchrun -m kakusan train ...`."""

import sys


def main() -> None:
    """Run the command; Ctrl-C is one line also while the modules of the command are imported."""
    try:
        from kakusan.cli import main as run

        run()
    except KeyboardInterrupt:
        print("kakusan: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
