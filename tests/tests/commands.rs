//! README's section "Attack it yourself", run as it stands there.
//!
//! A block that begins with ```` ```sh attack ```` is run by one shell, block after block, so that variables live
//! on. A line `# expect: TEXT` says what stands in the output of the commands before it, back to the last such line;
//! `# soon: TEXT` the same of commands that only look, and may have to look again until it is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use e2e::{Mesh, repository};

/// Commands, and what must stand in what they print.
#[derive(Debug, PartialEq)]
struct Step {
    commands: String,
    expect: String,
    soon: bool,
}

#[test]
fn what_readme_says_is_what_happens() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let steps = steps(&readme);
    assert!(steps.len() >= 4, "README shows how to attack");
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        eprintln!("SKIPPED: README's commands need curl");
        return;
    }
    let mesh = Mesh::start("readme");
    let outputs = run(&steps, mesh.folder());
    for (step, output) in steps.iter().zip(outputs) {
        assert!(output.contains(&step.expect), "{}\nprinted\n{output}\nand not {}", step.commands, step.expect);
    }
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut inside, mut commands) = (false, String::new());
    for line in readme.lines() {
        let soon = line.strip_prefix("# soon: ");
        match (inside, line.strip_prefix("# expect: ").or(soon)) {
            (false, _) => inside = line == "```sh attack",
            (true, Some(expect)) => {
                let commands = std::mem::take(&mut commands);
                steps.push(Step { commands, expect: expect.to_owned(), soon: soon.is_some() });
            }
            (true, None) if line == "```" => inside = false,
            (true, None) => commands += &format!("{line}\n"),
        }
    }
    assert_eq!(commands.trim(), "", "commands without an expectation");
    steps
}

/// The output of each step, from one shell that has read the variables of the mesh.
fn run(steps: &[Step], mesh: &Path) -> Vec<String> {
    let mut script = format!(". {}/env.sh\n", mesh.display());
    for (number, step) in steps.iter().enumerate() {
        let output = format!("{}/step-{number}.out", mesh.display());
        let once = format!("{{\n{}}} >{output} 2>&1\n", step.commands);
        script += &match step.soon {
            false => once,
            true => format!(
                "for again in {{1..50}}; do\n{once}grep -qF '{}' {output} && break\nsleep 0.1\ndone\n",
                step.expect
            ),
        };
    }
    let shell = Command::new("bash").args(["-c", &script]).current_dir(repository()).output().unwrap();
    assert!(shell.stderr.is_empty(), "{}", String::from_utf8_lossy(&shell.stderr));
    let output = |number| std::fs::read(mesh.join(format!("step-{number}.out"))).unwrap();
    (0..steps.len()).map(|number| String::from_utf8_lossy(&output(number)).into_owned()).collect()
}

#[test]
fn blocks_are_read_as_they_are_meant() {
    let readme = "```sh\nmake\n```\n```sh attack\nA=1\necho $A\n# expect: 1\necho 2\n# soon: 2\n```\n# expect: no\n";
    let step = |commands: &str, expect: &str, soon| Step { commands: commands.into(), expect: expect.into(), soon };
    assert_eq!(steps(readme), [step("A=1\necho $A\n", "1", false), step("echo 2\n", "2", true)]);
}
