//! What `--keep` prints: commands to paste.

use super::mesh::Mesh;

/// Prints how to attack the mesh that now stays up.
pub(crate) fn commands(mesh: &Mesh) {
    let state = mesh.folder().display();
    let me = std::env::current_exe().map_or_else(|_| "fapictl".to_owned(), |path| path.display().to_string());
    let (Ok(payments), Ok(operator)) = (mesh.member("payments"), mesh.operator()) else {
        return;
    };
    let (host, inbound, issuer) = (payments.host(), payments.inbound(), operator.issuer);
    println!(
        "\nThe mesh stays up until Ctrl-C; {state}/demo.json describes it. Be shop, then be a thief:\n
  {me} identity --state {state} --workload bank/shop-1 --out {state}/shop
  {me} identity --state {state} --workload outside/intruder-1 --out {state}/intruder
  TOKEN=$({me} token --identity {state}/shop --issuer {issuer} --audience https://{host})
  curl -ki --cert {state}/shop/chain.pem --key {state}/shop/key.pem --connect-to {host}:443:{inbound} \\
    -H \"Authorization: Bearer $TOKEN\" -X POST https://{host}/transfers
  curl -ki --cert {state}/intruder/chain.pem --key {state}/intruder/key.pem --connect-to {host}:443:{inbound} \\
    -H \"Authorization: Bearer $TOKEN\" -X POST https://{host}/transfers
  tail -n 1 {log}
",
        log = payments.log.path().display()
    );
}
