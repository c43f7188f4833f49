//! `fapictl inject` and `fapictl uninject`: YAML documents in, YAML documents out. What happened goes to standard error.

use std::path::Path;

use operator::inject::{self, Done, Image, Settings, StreamError};

use crate::args::{DocumentArgs, InjectArgs, UninjectArgs};
use crate::failure::{Failure, OrFail};
use crate::files;

/// Brings the sidecar into workloads.
pub(crate) fn inject(args: InjectArgs) -> Result<(), Failure> {
    let InjectArgs { documents, image, pull_policy, control, trust_domain, operator_namespace, allow } = args;
    let settings = Settings {
        image: Image { name: image, pull_policy },
        control,
        trust_domain,
        operator_namespace,
        allowed: inject::Allowed::everywhere(&allow),
    };
    each(&documents, |text| inject::inject_stream(text, &settings, &documents.namespace))
}

/// Takes it out again.
pub(crate) fn uninject(args: &UninjectArgs) -> Result<(), Failure> {
    let UninjectArgs { documents } = args;
    each(documents, |text| inject::uninject_stream(text, &documents.namespace))
}

/// Prints nothing before everything is in order, so that a pipe never gets half of it.
fn each(documents: &DocumentArgs, change: impl Fn(&str) -> Result<Done, StreamError>) -> Result<(), Failure> {
    let mut texts = Vec::new();
    let mut notes = Vec::new();
    for file in &documents.files {
        let (text, place) = read(file)?;
        let done = change(&text).or_fail("cannot do it", place, "mend the document; nothing was printed")?;
        notes.extend(done.notes);
        texts.extend(Some(done.text).filter(|text| !text.is_empty()));
    }
    for note in notes {
        eprintln!("{note}");
    }
    print!("{}", texts.join("---\n"));
    Ok(())
}

fn read(file: &Path) -> Result<(String, String), Failure> {
    if file != Path::new("-") {
        return Ok((files::read(file, "give a file of YAML documents")?, file.display().to_string()));
    }
    let place = "standard input".to_owned();
    let read = std::io::read_to_string(std::io::stdin());
    Ok((read.or_fail("cannot read", &place, "pipe YAML documents into it, or give a file")?, place))
}
