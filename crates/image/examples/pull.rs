//! Pulls one image into a store of its own and says how long that took, to be
//! put beside other pullers: `pull DIRECTORY IMAGE`. Ends in a flush to disk,
//! as every pull does.
#![allow(clippy::print_stdout, reason = "an example")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use boatyard_image::{Images, Options, Quiet, Reference};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(image)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pull DIRECTORY IMAGE".into());
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let images = Images::open(Path::new(&directory), Options::default())?;
    let image = images
        .ensure(&Reference::parse(&image)?, Arc::new(Quiet))
        .await?;
    println!(
        "{:.3} s, {} layers",
        began.elapsed().as_secs_f64(),
        image.layers.len()
    );
    Ok(())
}
