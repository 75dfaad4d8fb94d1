//! `model_warmup`.

use std::num::{NonZeroU32, NonZeroU64};

use super::batching::Rows;
use super::section::{Section, text};
use super::tensors::datatype;
use crate::error::ConfigError;
use crate::settings::{WarmupData, WarmupInput, WarmupSample};

/// The folder of a model where Triton looks for the data of samples.
const FOLDER: &str = "warmup";

pub(super) fn read(root: &Section<'_>, rows: Rows) -> Result<Vec<WarmupSample>, ConfigError> {
    root.sections("model_warmup")?.into_iter().map(|section| sample(section, rows)).collect()
}

fn sample(section: Section<'_>, rows: Rows) -> Result<WarmupSample, ConfigError> {
    let name = section.text("name")?.unwrap_or_default();
    let count = section.integer::<u32>("count")?.and_then(NonZeroU32::new);
    let batch_size = section.integer::<u32>("batch_size")?.map(u64::from).and_then(NonZeroU64::new);
    let batch_size = match rows {
        // The shapes of samples leave out the batch axis where those of the model do.
        Rows::LeftOut => batch_size.or(NonZeroU64::new(1)),
        Rows::Within => match batch_size {
            Some(size) if size.get() > 1 => {
                return Err(ConfigError::Value {
                    key: section.key("batch_size"),
                    at: None,
                    problem: format!("{size} rows, and `max_batch_size` is 0 or not given"),
                });
            }
            _ => None,
        },
    };
    let mut sample = WarmupSample { name, count, batch_size, ..WarmupSample::default() };
    for (name, located) in section.map("inputs")? {
        let input = section.inside(&located)?;
        let datatype = datatype(&input)?;
        let shape: Vec<u64> = input.integers("dims")?;
        let zero = input.boolean("zero_data")?.unwrap_or(false);
        let random = input.boolean("random_data")?.unwrap_or(false);
        let file = input.one("input_data_file")?;
        let data = match (zero, random, file) {
            (_, false, None) => WarmupData::Zero,
            (false, true, None) => WarmupData::Random,
            (false, false, Some(file)) => {
                let path = format!("{FOLDER}/{}", text(&file)?);
                let path = path.parse().map_err(|error| file.problem(format!("{error}")))?;
                WarmupData::File(path)
            }
            _ => return Err(located.problem("has more than one kind of data")),
        };
        input.finish();
        sample.inputs.insert(name, WarmupInput { datatype, shape: Some(shape), data });
    }
    section.finish();
    Ok(sample)
}
