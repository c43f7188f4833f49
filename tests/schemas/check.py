"""Every golden document of the injector against the strict schemas of each supported Kubernetes."""

import pathlib
import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.33", "1.34", "1.35", "1.36", "1.37"]


def main(folder: pathlib.Path) -> int:
    pods = sorted(folder.glob("inject/*/out.yaml"))
    webhooks = [folder / "webhook" / name for name in ("mutating.yaml", "validating.yaml")]
    if len(pods) < 4:
        print(f"only {len(pods)} injected pods below {folder}: has the folder moved?")
        return 1
    wrong = 0
    for file in pods + webhooks:
        document = yaml.safe_load(file.read_text())
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong += 1
                print(f"{file.relative_to(folder)} on {version}: {list(error.path)}: {error.message}")
        # A schema that takes anything would show nothing.
        document["spec" if "spec" in document else "webhooks"] = "x"
        try:
            kubernetes_validate.validate(document, VERSIONS[0], strict=True)
            wrong += 1
            print(f"{file.relative_to(folder)}: the schema takes nonsense")
        except kubernetes_validate.ValidationError:
            pass
    print(f"{len(pods + webhooks)} documents, {len(VERSIONS)} versions, {wrong} problems")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
