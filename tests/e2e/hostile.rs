mod clients;
mod files;
mod permissions;
