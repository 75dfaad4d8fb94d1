//! Reads the settings of a model from each of the forms in which they come.

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Format, Toml};
use inferring_types::ModelName;

use super::ModelSettings;
use crate::error::{ConfigError, UnknownKey};
use crate::plan::Note;
use crate::text_format::{self, LENGTH_MAX};
use crate::{json, triton, wrong_value};

impl ModelSettings {
    /// Reads our own form, `config.toml`.
    ///
    /// # Errors
    /// [`ConfigError`]; for a key that does not exist it names the nearest one that does.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        check_length(text.len())?;
        // Asked for the place of an error in the text, which figment does not tell.
        if let Err(error) = text.parse::<toml::Table>() {
            return Err(ConfigError::Toml(error.to_string().trim_end().to_owned()));
        }
        let settings: Self =
            Figment::from(Toml::string(text)).extract().map_err(|error| explain(&error))?;
        settings.check()?;
        Ok(settings)
    }

    /// Reads Triton's form, `config.pbtxt`, for the model of that name.
    ///
    /// # Errors
    /// [`ConfigError`] where the text is malformed, a value is wrong, or the configuration asks
    /// for what cannot be served. What merely has no effect is in the notes.
    pub fn from_pbtxt(text: &[u8], model: &ModelName) -> Result<(Self, Vec<Note>), ConfigError> {
        let tree = text_format::parse(text)?;
        triton::interpret(&tree, triton::Spelling::TextFormat, model)
    }

    /// Reads Triton's form in JSON, as load requests bring it, for the model of that name.
    ///
    /// # Errors
    /// As [`ModelSettings::from_pbtxt`].
    pub fn from_json(text: &str, model: &ModelName) -> Result<(Self, Vec<Note>), ConfigError> {
        check_length(text.len())?;
        let tree = json::parse(text)?;
        triton::interpret(&tree, triton::Spelling::Json, model)
    }
}

fn check_length(length: usize) -> Result<(), ConfigError> {
    if length > LENGTH_MAX {
        return Err(ConfigError::TooLong { length: length as u64 });
    }
    Ok(())
}

fn explain(error: &figment::Error) -> ConfigError {
    let key = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(unknown, known) => {
            ConfigError::UnknownKey(UnknownKey::new(&key, unknown, known))
        }
        kind => ConfigError::Value { key, at: None, problem: wrong_value(kind) },
    }
}

#[cfg(test)]
mod tests;
