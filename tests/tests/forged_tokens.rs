//! No forged service-account token and no forged token review is let in: the table of `make faults`, once.

use std::io;

use strongroom_tests::faults::forgeries;

/// Rows there have to be, the flipped bits left out.
const LEAST: u64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn no_forgery_is_let_in() -> io::Result<()> {
    let work = tempfile::tempdir()?;
    let figures = forgeries::run(work.path(), 7).await?;
    for figure in &figures {
        println!("{}: {} ({})", figure.name, figure.value, figure.bar);
        assert!(figure.reached, "{}: {}", figure.name, figure.value);
        let tries = figure.bar.strip_prefix("0 of ").and_then(|tries| tries.parse::<u64>().ok());
        assert!(tries.is_some_and(|tries| tries >= LEAST), "{}", figure.bar);
    }
    Ok(())
}
