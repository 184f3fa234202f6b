"""The command `apparent-personality`: the tools for users of a published model, in one program."""

import argparse
import importlib
import sys

COMMANDS = {
    "predict": "predict the scores of video clips",
    "page": "serve a page on which clips are predicted in the browser",
    "serve": "answer requests with predictions as JSON",
    "export": "write a model's network as ONNX or as a PyTorch program",
    "publish": "write or check the folder of a published model",
    "weights": "list or fetch the pretrained weights that a model needs",
}
"""Commands with what they do; each is a module of `tools`."""
_TOOLS = "tools.{name}"


def main() -> None:
    """Run the command that the first argument names, with the other arguments."""
    parser = argparse.ArgumentParser(
        prog="apparent-personality",
        description="Predict how people rate the person in a video clip.",
        epilog="\n".join(["commands:", *(f"  {name:10}{text}" for name, text in COMMANDS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="command, see below")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments; try --help")
    options = parser.parse_args()
    module = importlib.import_module(_TOOLS.format(name=options.command))
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{module.__name__}.__main__")
    command = importlib.import_module("lib.core.command")
    sys.argv = [f"apparent-personality {options.command}", *options.arguments]
    command.run(module.main)


if __name__ == "__main__":
    main()
