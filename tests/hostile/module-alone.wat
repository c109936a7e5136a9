;; A core module with the right names, and no component. Must be refused when it is installed.
(module (memory (export "memory") 1) (func (export "chimera:skill/runner@0.1.0#run")))
