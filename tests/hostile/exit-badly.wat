;; Ends the process, and says that it went badly. Must end this run alone, as a failure.
(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))
(run (call $exit (i32.const 1)) unreachable)
