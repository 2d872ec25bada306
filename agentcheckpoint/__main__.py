"""``python -m agentcheckpoint``."""

from agentcheckpoint.cli.main import main

if __name__ == "__main__":
    main()
