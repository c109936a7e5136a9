;; Uses continuations. Must be refused when it is installed.
(component (core module (type $f (func)) (type $c (cont $f))))
