//! Prints every custom resource definition, or writes each to a folder: `crdgen [FOLDER]`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let folder = std::env::args().nth(1);
    for crd in crds::all() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let done = crds::render(&crd).and_then(|text| match &folder {
            Some(folder) => std::fs::write(Path::new(folder).join(&name), text).map_err(|error| error.to_string()),
            None => {
                print!("---\n{text}");
                Ok(())
            }
        });
        if let Err(error) = done {
            eprintln!("crdgen: cannot write {name}: {error}; give an existing folder that you may write to");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
