document.querySelectorAll(".slider input").forEach((input) => {
  const split = () => input.parentElement.style.setProperty("--split", `${input.value}%`);
  input.addEventListener("input", split);
  split(); // browsers keep the position when a page is loaded again
});
