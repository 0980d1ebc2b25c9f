//! doctor: what this machine has, lacks, and how to mend it. Everything is tried, not looked at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use hypeman_host::Host;
use hypeman_host::doctor::{Check, Verdict};

use crate::args::Format;
use crate::escape::short;
use crate::output;

/// Prints the report; fails when something that no VM can do without is not ok.
pub(crate) fn doctor(host: &Host, cloud_hypervisor: Option<&Path>, format: Format) -> Result<ExitCode> {
    let checks = host.check(cloud_hypervisor);
    let well = checks.iter().all(|check| check.optional || check.verdict == Verdict::Ok);
    match format {
        Format::Json | Format::Template(_) => output::list(format, &[], &checks, |_| Vec::new())?,
        Format::Table => {
            checks.iter().flat_map(report).try_for_each(|line| output::line(&line))?;
            let summary =
                if well { "All requirements are met." } else { "Some requirements are not met: see above." };
            output::line(summary)?;
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Columns of the report, and of its parts.
const WIDTH: usize = 100;
const NAME_WIDTH: usize = 20;
const VERDICT_WIDTH: usize = 10;

/// The lines that tell of a check; words longer than a line, paths, are left whole.
fn report(check: &Check) -> Vec<String> {
    let verdict = match (check.verdict, check.optional) {
        (Verdict::Ok, _) => "ok",
        (Verdict::Missing, false) => "missing",
        (Verdict::Broken, false) => "broken",
        // Its detail tells why; it is no fault that something is not there which VMs can do
        // without.
        (Verdict::Missing, true) => "optional",
        (Verdict::Broken, true) => "unusable",
    };
    let indent = " ".repeat(NAME_WIDTH + VERDICT_WIDTH);
    let first = format!("{:NAME_WIDTH$}{verdict:VERDICT_WIDTH$}", check.name);
    let wrap = |text: &str, first: &str| {
        let options = textwrap::Options::new(WIDTH).initial_indent(first).subsequent_indent(&indent);
        let options = options.break_words(false).word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect::<Vec<_>>()
    };
    let detail = wrap(&short(&check.detail, 400), &first);
    let advice = check.advice.as_ref().map(|advice| wrap(advice, &format!("{indent}-> ")));
    detail.into_iter().chain(advice.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_fits_a_terminal_and_keeps_paths_whole() {
        let path = format!("/{}", "long/".repeat(20));
        let check = Check {
            name: "qemu on kvm".to_owned(),
            verdict: Verdict::Broken,
            detail: format!("{path} 7.2.22: {}", "a few words ".repeat(20)),
            advice: Some("do something about it ".repeat(10)),
            optional: true,
        };
        let lines = report(&check);
        assert!(lines[0].starts_with("qemu on kvm         unusable"), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains(&path)));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH || line.contains(&path)), "{lines:#?}");
    }
}
