//! `sordino bench`: what the aggregation costs on this machine, beside what the machine could do at best, beside another
//! implementation, over growing cohorts, and in memory; and what norm proofs cost.

mod certificates;
mod cohort;
mod fit;
mod machine;
mod memory;
mod peer;
mod proofs;
mod report;
mod scale;
mod scenario;
mod secagg;
mod shelf;
mod uploads;

use crate::{failure::Failure, output::Output};

/// Measure this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    Secagg(secagg::Secagg),
    Scale(scale::Scale),
    Memory(memory::Memory),
    Proofs(proofs::Proofs),
    All(All),
}

/// All of it, one after the other.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  sordino bench all --peer --output json > bench.json

Takes as long as the three commands one after the other.")]
pub(crate) struct All {
    #[command(flatten)]
    secagg: secagg::Secagg,
}

#[derive(serde::Serialize)]
struct Everything {
    secagg: report::Report,
    scale: scale::Report,
    memory: memory::Report,
}

impl Bench {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::Secagg(secagg) => output.result(&secagg.measure()?, report::text),
            Self::Scale(scale) => output.result(&scale.measure()?, scale::text),
            Self::Memory(memory) => memory.run(output),
            Self::Proofs(proofs) => proofs.run(output),
            Self::All(All { secagg }) => {
                let quick = secagg.quick;
                let everything = Everything {
                    secagg: secagg.measure()?,
                    scale: scale::Scale::whole(quick).measure()?,
                    memory: memory::Memory::whole(quick).measure()?,
                };
                output.result(&everything, |all| {
                    let parts = [report::text(&all.secagg), scale::text(&all.scale), memory::text(&all.memory)];
                    parts.join("\n")
                })
            }
        }
    }
}
