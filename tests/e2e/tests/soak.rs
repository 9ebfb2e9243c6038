//! A transfer that nothing ends: a small form of `cargo xtask soak`.

use tunnel_e2e::{Soak, on_stage};

#[test]
fn a_two_way_transfer_survives_a_relay_that_is_killed_and_a_network_that_cuts_and_stalls() {
    on_stage(async |stage| {
        let soak = Soak { kills: 5, mebibytes: 24, seed: 1 };
        println!("{}", soak.run(stage).await?);
        Ok(())
    });
}
