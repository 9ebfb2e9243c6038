//! The macro that makes `Config` of the table of settings in `config`.

/// Makes `Config` of a table of settings; each is
///
/// ```text
/// field: Type as Kind = default, [[smallest, largest],] reload | restart,
///     "what it does",
///     "why the default is what it is";
/// ```
macro_rules! settings {
    ($( $group:literal { $(
        $field:ident: $type:ty as $kind:ty = $default:expr, $([$min:expr, $max:expr],)? $when:ident,
            $what:literal, $why:literal;
    )* } )*) => {
        /// Everything that a [`Relay`](crate::Relay) is told.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(
                #[doc = concat!("Setting: ", $what, ".")]
                pub $field: $type,
            )*)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($( $field: $default, )*)* }
            }
        }

        impl Config {
            /// All settings, in the order of the table.
            #[must_use]
            pub fn settings() -> Vec<$crate::config::print::Setting> {
                vec![$($(
                    $crate::config::print::Setting {
                        group: $group,
                        field: stringify!($field),
                        form: <$kind as $crate::config::kind::Kind<$type>>::FORM,
                        allowed: $crate::config::macros::settings!(@allowed $type, $kind $(, $min, $max)?),
                        many: <$kind as $crate::config::kind::Kind<$type>>::MANY,
                        secret: <$kind as $crate::config::kind::Kind<$type>>::SECRET,
                        reload: $crate::config::macros::settings!(@reload $when),
                        default: <$kind as $crate::config::kind::Kind<$type>>::human(&$default),
                        what: $what,
                        why: $why,
                    },
                )*)*]
            }

            /// Changes one setting; the error says what is wrong with the value.
            fn set(&mut self, field: &str, texts: &[String]) -> Result<(), String> {
                match field {
                    $($(
                        stringify!($field) => {
                            let value = <$kind as $crate::config::kind::Kind<$type>>::parse(texts)?;
                            $(
                                if !($min..=$max).contains(&value) {
                                    return Err(format!("{:?} is out of bounds", texts.join(",")));
                                }
                            )?
                            self.$field = value;
                        }
                    )*)*
                    _ => return Err("there is no such setting".to_owned()),
                }
                Ok(())
            }

            /// One setting as it stands in a file; `None` if it is not set.
            fn toml(&self, field: &str) -> Option<String> {
                match field {
                    $($( stringify!($field) => <$kind as $crate::config::kind::Kind<$type>>::toml(&self.$field), )*)*
                    _ => None,
                }
            }

            /// This configuration with what can be changed while the relay runs taken from `new`, and the names of
            /// the settings that differ but wait for a restart.
            #[must_use]
            pub fn reloaded(&self, new: Self) -> (Self, Vec<String>) {
                let mut result = self.clone();
                let mut waiting = Vec::new();
                $($(
                    if $crate::config::macros::settings!(@reload $when) {
                        result.$field = new.$field;
                    } else if result.$field != new.$field {
                        waiting.push($crate::config::print::name(stringify!($field)));
                    }
                )*)*
                (result, waiting)
            }
        }
    };

    (@reload reload) => { true };
    (@reload restart) => { false };

    (@allowed $type:ty, $kind:ty) => {
        <$kind as $crate::config::kind::Kind<$type>>::ALLOWED.to_owned()
    };
    (@allowed $type:ty, $kind:ty, $min:expr, $max:expr) => {
        format!(
            "{}, from {} to {}",
            <$kind as $crate::config::kind::Kind<$type>>::ALLOWED,
            <$kind as $crate::config::kind::Kind<$type>>::human(&$min),
            <$kind as $crate::config::kind::Kind<$type>>::human(&$max),
        )
    };
}

pub(super) use settings;
