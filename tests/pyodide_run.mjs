// Runs a Python file in Pyodide under Node: node pyodide_run.mjs DISTRIBUTION FILE.py WHEEL …
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [distribution, file, ...wheels] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(`${distribution}/pyodide.mjs`));
try {
  const python = await loadPyodide({ indexURL: `${distribution}/` });
  await python.loadPackage(["numpy", "scipy", "matplotlib"], { messageCallback: () => {} });
  const extractDir = python.runPython("import sysconfig; sysconfig.get_path('purelib')");
  for (const wheel of wheels) python.unpackArchive(new Uint8Array(readFileSync(wheel)), "wheel", { extractDir });
  await python.runPythonAsync(readFileSync(file, "utf8"));
} catch (error) {                                                  // alone: Node would print all of Pyodide above it
  console.error(error.message);
  process.exitCode = 1;
}
