//! The program behind `cargo xtask soak`: `soak <kills> <MiB each way> <seed>`.

use std::env;

use anyhow::{Context, Result};
use tunnel_e2e::{Soak, on_stage_within};

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut number = |name: &str| -> Result<u64> {
        numbers
            .next()
            .with_context(|| format!("usage: soak KILLS MEBIBYTES SEED: there is no {name}"))?
            .context(name.to_owned())
    };
    let soak = Soak { kills: number("KILLS")?, mebibytes: number("MEBIBYTES")?, seed: number("SEED")? };
    on_stage_within(soak.limit(), async |stage| {
        println!("\n{}", soak.run(stage).await?);
        Ok(())
    });
    Ok(())
}
