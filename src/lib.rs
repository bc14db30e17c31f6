//! ringlane
#![deny(unsafe_code)]
#![allow(dead_code)]
mod sync;
mod layout;
mod sys;
mod words;
mod ring;
mod doorbell;
