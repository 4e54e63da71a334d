//! Every unsafe line and raw system call.
