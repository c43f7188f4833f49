//! `fapictl inject` and `fapictl uninject`: YAML documents in, YAML documents out. What happened goes to standard error.

use std::path::Path;

use operator::inject::{self, Done, Image, Settings, StreamError};

use crate::args::{DocumentArgs, InjectArgs, UninjectArgs};
use crate::failure::{Failure, OrFail};
use crate::files;

/// Brings the sidecar into workloads.
pub(crate) fn inject(args: InjectArgs) -> Result<(), Failure> {
    let InjectArgs { documents, image, pull_policy, control, trust_domain, operator_namespace, allow } = args;
    let allowed = inject::Allowed::everywhere(&allow);
    let image = Image { name: image, pull_policy };
    let settings = Settings { image, control, trust_domain, operator_namespace, allowed };
    print(&each(&documents, |text| inject::inject_stream(text, &settings, &documents.namespace, inject::random))?);
    Ok(())
}

/// Takes it out again.
pub(crate) fn uninject(args: &UninjectArgs) -> Result<(), Failure> {
    let documents = &args.documents;
    print(&each(documents, |text| inject::uninject_stream(text, &documents.namespace))?);
    Ok(())
}

/// All or nothing, so that a pipe never gets half of it.
fn each(documents: &DocumentArgs, change: impl Fn(&str) -> Result<Done, StreamError>) -> Result<Done, Failure> {
    let (mut texts, mut notes) = (Vec::new(), Vec::new());
    for file in &documents.files {
        let (text, place) = read(file)?;
        let done = change(&text).or_fail("nothing is printed", place, "mend what is named")?;
        notes.extend(done.notes);
        texts.extend(Some(done.text).filter(|text| !text.is_empty()));
    }
    Ok(Done { text: texts.join("---\n"), notes })
}

fn read(file: &Path) -> Result<(String, String), Failure> {
    if file != Path::new("-") {
        return Ok((files::read(file, "give a file of YAML documents")?, file.display().to_string()));
    }
    let place = "standard input".to_owned();
    let read = std::io::read_to_string(std::io::stdin());
    Ok((read.or_fail("cannot read", &place, "pipe YAML documents into it, or give a file")?, place))
}

fn print(done: &Done) {
    for note in &done.notes {
        eprintln!("{note}");
    }
    print!("{}", done.text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn files_are_changed_together_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("fapictl-inject-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let service = write("service.yaml", "kind: Service\nmetadata: {name: a}\n");
        let pod = write("pod.yaml", "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: app}]}\n");
        let bad = write("bad.yaml", "kind: Pod\nmetadata: {name: b}\nspec: {hostPID: true, containers: []}\n");
        let settings = Settings {
            image: Image { name: "i".to_owned(), pull_policy: "Never".to_owned() },
            control: "c:1".to_owned(),
            trust_domain: fapi::TrustDomain::parse("bank.example").unwrap(),
            operator_namespace: "fapi-mesh".to_owned(),
            allowed: inject::Allowed::default(),
        };
        let inject = |text: &str| inject::inject_stream(text, &settings, "bank", inject::random);
        let documents = |files: &[&Path]| DocumentArgs {
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            namespace: "bank".to_owned(),
        };
        let done = each(&documents(&[&service, &pod]), inject).unwrap();
        assert!(done.text.starts_with("kind: Service\nmetadata: {name: a}\n---\n"), "{}", done.text);
        assert!(done.text.contains("name: fapi-sidecar"));
        assert_eq!(done.notes, ["Pod bank/a: injected"]);
        let failure = each(&documents(&[&pod, &bad]), inject).unwrap_err().to_string();
        assert!(failure.contains("Pod bank/b") && failure.contains("bad.yaml"), "{failure}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
