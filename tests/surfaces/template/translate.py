"""Templates as CloudFormation sees them: read, and translated by SAM's own translator.

The emulator ignores much of what a template says, so the tests look at the translation.
"""

import argparse
import copy
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from tests.support.paths import ROOT

TEMPLATE = ROOT / "template.yaml"
TEMPLATES = [TEMPLATE, *sorted(ROOT.glob("examples/*/template.yaml"))]


def read(path: Path = TEMPLATE) -> dict[str, Any]:
    """The template as it is written, with short tags such as !Ref spelt out."""
    return cast("dict[str, Any]", yaml_parse(path.read_text()))


def translate(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template with every AWS::Serverless resource replaced by what SAM makes of it."""
    given = copy.deepcopy(dict(template))
    for resource in given["Resources"].values():
        for key in ("CodeUri", "ContentUri"):
            if key in resource.get("Properties", {}):
                resource["Properties"][key] = "s3://artifacts/key"  # sam deploy uploads local folders first
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name="eu-west-1"))
    return cast("dict[str, Any]", translator.translate(given, parameter_values={}))


def main() -> None:
    """Write the translation of each template, for the linter."""
    arguments = argparse.ArgumentParser(description=main.__doc__)
    arguments.add_argument("templates", nargs="+", type=Path)
    arguments.add_argument("--out", required=True, type=Path)
    options = arguments.parse_args()
    logging.disable(logging.WARNING)  # the translator would have its metrics published
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.templates:
        name = "-".join(path.resolve().relative_to(ROOT).with_suffix("").parts)
        (options.out / f"{name}.json").write_text(json.dumps(translate(read(path)), indent=1))


if __name__ == "__main__":
    main()
